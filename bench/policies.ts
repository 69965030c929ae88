import { OutriderError } from '#core/errors';
import {
  compilePolicySet,
  decide,
  type PolicyDocuments,
  type RolePolicy,
  requestTarget,
  rolePolicy,
  type Target,
} from '#policies';
import { diffPolicySets } from '#policies/review';
import { quantile } from './measure.ts';
import { SHAPES, type Shape } from './policies/sets.ts';

const RULES = 10_000;
const FEW = 100;
const WARM_UP = 30_000;
const ROUNDS = 5;
const SAMPLES = 30_000;
const BUILDS = 5;
const DIFFS = 2;

/** What deciding costs with many rules, and what compiling a set of them does. Each figure is that of the worst shape. */
export async function policiesPart(): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  const worst = (name: string, value: number): void => {
    figures[name] = Math.max(figures[name] ?? 0, value);
  };
  for (const shape of SHAPES) {
    const [many, few] = [samplesOf(shape, RULES), samplesOf(shape, FEW)];
    const name = shape.name.replace(' ', '_');
    figures[`decide_10k_${name}_p99_us`] = quietest(many, 0.99) * 1_000;
    worst('decide_10k_p50_us', quietest(many, 0.5) * 1_000);
    worst('decide_10k_p99_us', quietest(many, 0.99) * 1_000);
    worst('decide_growth', quietest(many, 0.5) / quietest(few, 0.5));
    for (const [figure, value] of [
      ['compile_10k', compileMs(shape.documents(RULES))],
      ['diff_10k', diffMs(shape.documents(RULES))],
    ] as const) {
      figures[`${figure}_${name}_ms`] = value;
      worst(`${figure}_ms`, value);
    }
    // A turn for whatever else the process has to do.
    await Promise.resolve();
  }
  return figures;
}

/** The fastest of some builds: from checked shapes to a policy that decides. */
function compileMs(documents: PolicyDocuments): number {
  const took = Array.from({ length: BUILDS }, () => {
    const from = performance.now();
    policyOf(documents);
    return performance.now() - from;
  });
  return Math.min(...took);
}

/** The fastest of some comparisons of a set with itself, in which every seventh rule is gone and every eleventh has other methods. */
function diffMs(documents: PolicyDocuments): number {
  const before = compilePolicySet(documents, 'before');
  const egressPolicies = documents.egressPolicies.map((policy) => ({
    ...policy,
    spec: {
      ...policy.spec,
      allow: policy.spec.allow
        .filter((_rule, i) => i % 7 !== 3)
        .map((rule, i) => (i % 11 === 5 ? { ...rule, methods: ['GET', 'DELETE'] as const } : rule)),
    },
  }));
  const after = compilePolicySet({ ...documents, egressPolicies }, 'after');
  const took = Array.from({ length: DIFFS }, () => {
    const from = performance.now();
    diffPolicySets(before, after);
    return performance.now() - from;
  });
  return Math.min(...took);
}

function policyOf(documents: PolicyDocuments): RolePolicy {
  return rolePolicy(compilePolicySet(documents, 'bench'), 'analyst', '');
}

/** Of several rounds the one in which the machine did least else. */
function quietest(rounds: readonly (readonly number[])[], share: number): number {
  return Math.min(...rounds.map((samples) => quantile(samples, share)));
}

/** Milliseconds of single decisions, over all requests of a shape in turn, in rounds. */
function samplesOf(shape: Shape, rules: number): number[][] {
  const policy = policyOf(shape.documents(rules));
  const targets = shape.requests(rules).map(targetOf);
  const nowMs = Date.now();
  const round = (samples: number): number[] =>
    Array.from({ length: samples }, (_, i) => {
      const target = targets[i % targets.length];
      if (!target) throw new OutriderError('INTERNAL', `${shape.name} asks for nothing`);
      const from = performance.now();
      decide(policy, target, nowMs);
      return performance.now() - from;
    });
  round(WARM_UP);
  return Array.from({ length: ROUNDS }, () => round(SAMPLES));
}

function targetOf(text: string): Target {
  const canonical = requestTarget(text);
  if (!canonical.ok) throw new OutriderError('INTERNAL', `${text}: ${canonical.reason}`);
  return canonical.target;
}
