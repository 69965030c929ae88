import { checkDocuments } from '../check.ts';
import { decide } from '../decide.ts';
import type { Boundary, EgressPolicy } from '../document.ts';
import { boundary, datasource, documents } from '../fixture.ts';
import { boundaryProjection, eachPolicy } from '../project.ts';
import { compileRole, type RolePolicy } from '../role-policy.ts';
import type { Target } from '../target.ts';
import type { Findings } from './findings.ts';
import { Random } from './random.ts';
import { REFS, REQUESTS, randomBoundary, randomPolicy, targetOf } from './small-world.ts';

/** Nothing but the consent that private addresses take. */
const LAX = boundary('lax', { mayPrivate: ['0.0.0.0/0'] });

/**
 * Whether a policy lies within Boundaries, against deciding every request of a small world with and without them. A refusal must
 * name a request that only the Boundary refuses; a policy that loads must have none.
 */
export function fuzzBoundaries(cases: number, seed: number, check = checkDocuments): Findings {
  const random = new Random(seed);
  const differences: string[] = [];
  const seen = new Map<string, number>();
  for (let i = 0; i < cases; i++) {
    const drawn = randomPolicy(random, 'p', null);
    const policy: EgressPolicy = random.once(5)
      ? { ...drawn, spec: { ...drawn.spec, mode: 'report', until: '2030-01-01' } }
      : drawn;
    const boundaries = random.times(1 + random.below(2), (b) =>
      boundary(`b${b}`, randomBoundary(random)),
    );
    const [alone, bounded] = [effective(policy, [LAX]), effective(policy, boundaries)];
    const isBeyond = (target: Target) => opens(alone, target) && !opens(bounded, target);
    const examples = counterexamples(check, policy, boundaries);
    const unreal = examples.filter((text) => !isBeyond(targetOf(text)));
    const first = REQUESTS.find(({ target }) => isBeyond(target));
    const verdict = examples.length > 0 ? 'beyond' : 'within';
    if (unreal.length > 0 || (first && examples.length === 0)) {
      const what = { unreal, missed: first?.text, policy: policy.spec, boundaries };
      differences.push(JSON.stringify(what));
    }
    seen.set(verdict, (seen.get(verdict) ?? 0) + 1);
  }
  return { cases, differences, seen };
}

/** The requests that load errors name. */
function counterexamples(
  check: typeof checkDocuments,
  policy: EgressPolicy,
  boundaries: readonly Boundary[],
): string[] {
  const parts = REFS.map((ref) => ref.split('/'));
  return check(
    documents({
      egressPolicies: [policy],
      boundaries,
      datasources: parts.map(([type, name = '']) =>
        datasource(type === 'http' ? 'http' : 'prometheus', name),
      ),
    }),
  ).flatMap(({ message }) => /refuses "([^"]+)" by `/.exec(message)?.[1] ?? []);
}

/** The policy as it is enforced; while it only reports, without its deny rules. */
function effective(policy: EgressPolicy, boundaries: readonly Boundary[]): RolePolicy {
  const { mode, deny = [], until: _until, ...spec } = policy.spec;
  const enforced: EgressPolicy = {
    ...policy,
    spec: { ...spec, mode: 'enforce', deny: mode === 'enforce' ? deny : [] },
  };
  return compileRole({
    version: 1,
    role: 'analyst',
    tenant: '',
    expiresMs: null,
    boundaries: boundaries.map(boundaryProjection),
    policies: [...eachPolicy(documents({ egressPolicies: [enforced] })).values()],
  });
}

/** A tunnel that will be looked into opens nothing yet. */
function opens(policy: RolePolicy, target: Target): boolean {
  const decision = decide(policy, target, 0);
  return decision.verdict === 'allow' && !decision.intercept;
}
