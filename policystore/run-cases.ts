import {
  type Decision,
  type PolicyProblem,
  type PolicySet,
  type PolicyTest,
  type PolicyTestCase,
  requestTarget,
  rolePolicy,
  type Target,
} from '#policies';
import { type Circumstances, evaluate } from './evaluate.ts';

/** What became of one case of a PolicyTest. */
export interface CaseResult {
  readonly test: PolicyTest;
  /** Where the PolicyTest stands in its list of the set's documents, and the case in the PolicyTest. */
  readonly index: number;
  readonly position: number;
  readonly case: PolicyTestCase;
  /** The target that the verdict is about; undefined where the request has no single meaning. */
  readonly target: Target | undefined;
  readonly outcome: Outcome;
  /** Why the case fails; undefined where it holds. */
  readonly failure: string | undefined;
}

/** A verdict as cases see it: nothing has expired, and nothing is only reported. */
export type Outcome =
  | {
      readonly verdict: 'allow';
      readonly policy: string;
      readonly rule: string;
      readonly credential: string | null;
    }
  | {
      readonly verdict: 'deny';
      readonly policy: string | null;
      readonly rule: string | null;
      readonly reason: string;
    };

/** The cases of every PolicyTest, each with what became of it. */
export function runCases(set: PolicySet): CaseResult[] {
  return set.documents.tests.flatMap((test, index) =>
    test.spec.cases.map((one, position) => ({
      test,
      index,
      position,
      case: one,
      ...runCase(set, test, one),
    })),
  );
}

/** The problem of a case that fails, at its place. */
export function problemOf({ test, index, position, failure }: CaseResult): PolicyProblem[] {
  if (failure === undefined) return [];
  const path = ['spec', 'cases', position];
  return [{ kind: 'PolicyTest', name: test.metadata.name, index, path, message: failure }];
}

/** Before any date that a document could name. */
const BEFORE_EVERYTHING = Number.NEGATIVE_INFINITY;

function runCase(
  set: PolicySet,
  test: PolicyTest,
  one: PolicyTestCase,
): Pick<CaseResult, 'target' | 'outcome' | 'failure'> {
  const { target, outcome } = decideCase(set, test.spec.as, one.request, one);
  const differences = differ(one.expect, outcome);
  const failure =
    differences.length === 0 ? undefined : `case "${one.name}": ${differences.join(', ')}`;
  return { target, outcome, failure };
}

/** What sidecar and proxy together would say to a request as a PolicyTest writes it, on any day that no document names. */
export function decideCase(
  set: PolicySet,
  { role, tenant = '', phase }: PolicyTest['spec']['as'],
  request: string,
  circumstances: Circumstances = {},
): { readonly target: Target | undefined; readonly outcome: Outcome } {
  const canonical = requestTarget(request);
  if (!canonical.ok) {
    const outcome = {
      verdict: 'deny',
      policy: null,
      rule: null,
      reason: canonical.reason,
    } as const;
    return { target: undefined, outcome };
  }
  const policy = rolePolicy(set, role, tenant, phase);
  const { target, decision } = evaluate(
    set,
    policy,
    canonical.target,
    circumstances,
    BEFORE_EVERYTHING,
  );
  return { target, outcome: enforced(decision) };
}

function enforced(decision: Decision): Outcome {
  if (decision.verdict === 'deny') return decision;
  const { reported } = decision;
  return reported ? { verdict: 'deny', policy: null, ...reported } : decision;
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
