import {
  type Decision,
  type PolicyProblem,
  type PolicySet,
  type PolicyTest,
  type PolicyTestCase,
  requestTarget,
  rolePolicy,
} from '#policies';
import { evaluate } from './evaluate.ts';

/**
 * Runs the cases of every PolicyTest against a set, and says which expectations do not hold. The result depends on the
 * documents alone: cases see the policies before anything expires, and what report mode would let through counts as refused.
 */
export function runPolicyTests(set: PolicySet): PolicyProblem[] {
  return set.documents.tests.flatMap((test, index) =>
    test.spec.cases.flatMap((one, position) => {
      const message = runCase(set, test, one);
      if (message === undefined) return [];
      const path = ['spec', 'cases', position];
      return [{ kind: 'PolicyTest' as const, name: test.metadata.name, index, path, message }];
    }),
  );
}

/** Before any date that a document could name. */
const BEFORE_EVERYTHING = Number.NEGATIVE_INFINITY;

type Outcome =
  | { readonly verdict: 'allow'; readonly rule: string; readonly credential: string | null }
  | { readonly verdict: 'deny'; readonly rule: string | null; readonly reason: string };

/** Why the case fails; undefined where it holds. */
function runCase(set: PolicySet, test: PolicyTest, one: PolicyTestCase): string | undefined {
  if (one.request === undefined) {
    return `case "${one.name}" has no request; this version tests requests alone`;
  }
  const { role, tenant = '', phase } = test.spec.as;
  const canonical = requestTarget(one.request);
  const policy = rolePolicy(set, role, tenant, phase);
  const outcome: Outcome = canonical.ok
    ? enforced(
        evaluate(set, policy, canonical.target, one.resolve ?? [], BEFORE_EVERYTHING).decision,
      )
    : { verdict: 'deny', rule: null, reason: canonical.reason };
  const differences = differ(one.expect, outcome);
  return differences.length === 0 ? undefined : `case "${one.name}": ${differences.join(', ')}`;
}

function enforced(decision: Decision): Outcome {
  if (decision.verdict === 'deny') return decision;
  const { reported } = decision;
  return reported ? { verdict: 'deny', ...reported } : decision;
}

function differ(expect: PolicyTestCase['expect'], outcome: Outcome): string[] {
  const credential = outcome.verdict === 'allow' ? outcome.credential : null;
  const reason = outcome.verdict === 'deny' ? outcome.reason : null;
  const compare = (what: string, wanted: string | undefined, found: string | null) =>
    wanted === undefined || wanted === found
      ? []
      : [`expected ${what} ${wanted}, got ${found ?? 'none'}`];
  const why = reason === null || expect.reason !== undefined ? '' : ` (${reason})`;
  return [
    ...(expect.verdict === outcome.verdict
      ? []
      : [`expected ${expect.verdict}, got ${outcome.verdict}${why}`]),
    ...compare('rule', expect.rule, outcome.rule),
    ...compare('reason', expect.reason, reason),
    ...compare('credential', expect.credential, credential),
  ];
}
