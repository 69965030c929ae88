import { checkDocuments } from '../check.ts';
import { decide } from '../decide.ts';
import type { CredentialBinding } from '../document.ts';
import { documents, egress } from '../fixture.ts';
import { eachPolicy } from '../project.ts';
import { compileRole, type RolePolicy } from '../role-policy.ts';
import type { Target } from '../target.ts';
import type { Findings } from './findings.ts';
import { Random } from './random.ts';
import { PORTS, REQUESTS, randomAllow, randomBinding, targetOf } from './small-world.ts';

/**
 * Whether bindings overlap and rules stay within theirs, against asking for every request of a small world which bindings and
 * rules it is in. A load error must name a request that shows it.
 */
export function fuzzBindings(cases: number, seed: number, check = checkDocuments): Findings {
  const random = new Random(seed);
  const differences: string[] = [];
  const seen = new Map<string, number>();
  for (let i = 0; i < cases; i++) {
    const bindings = [randomBinding(random, 'one'), randomBinding(random, 'two')];
    const rule = { ...withHosts(random), credential: 'one' };
    const { overlap, outside } = examples(check, bindings, rule);
    const [one, two] = bindings.map(places);
    const asked = policyOf([rule]);
    const isShared = (target: Target) => allows(one, target) && allows(two, target);
    const isOutside = (target: Target) => allows(asked, target) && !allows(one, target);
    for (const [kind, found, shows] of [
      ['overlap', overlap, isShared],
      ['outside', outside, isOutside],
    ] as const) {
      const unreal = found.filter((text) => !shows(targetOf(text)));
      const missed = REQUESTS.find(({ target }) => shows(target));
      if (unreal.length > 0 || (missed && found.length === 0)) {
        const what = { kind, unreal, missed: missed?.text, bindings, rule };
        differences.push(JSON.stringify(what));
      }
      const verdict = `${kind} ${found.length > 0}`;
      seen.set(verdict, (seen.get(verdict) ?? 0) + 1);
    }
  }
  return { cases, differences, seen };
}

type Rule = Parameters<typeof egress>[1][number];

/** A rule that may have a credential: requests to names, over TLS. */
function withHosts(random: Random): Rule {
  for (;;) {
    const { limits: _limits, ...rule } = randomAllow(random, 'rule', null);
    const isTunnel = rule.protocols?.includes('tunnel') === true;
    if (rule.hosts && rule.scheme !== 'http' && !isTunnel) return rule;
  }
}

/** The requests that load errors name. */
function examples(
  check: typeof checkDocuments,
  bindings: readonly CredentialBinding[],
  rule: Rule,
) {
  const problems = check(
    documents({
      egressPolicies: [egress('p', [rule])],
      credentialBindings: bindings,
    }),
  );
  const quoted = (expression: RegExp) =>
    problems.flatMap(({ message }) => expression.exec(message)?.[1] ?? []);
  return {
    overlap: quoted(/both would apply to "([^"]+)"/),
    outside: quoted(/is not for "([^"]+)"/),
  };
}

/** What a binding is for, as if it were a rule. */
function places({ spec: { hosts, paths = 'any' } }: CredentialBinding): RolePolicy {
  const protocols = ['http1', 'http2', 'grpc', 'websocket'] as const;
  return policyOf([{ id: 'all', hosts, paths, methods: 'any', ports: PORTS, protocols }]);
}

function policyOf(rules: readonly Rule[]): RolePolicy {
  return compileRole({
    version: 1,
    role: 'analyst',
    tenant: '',
    expiresMs: null,
    boundaries: [],
    policies: [...eachPolicy(documents({ egressPolicies: [egress('p', rules)] })).values()],
  });
}

function allows(policy: RolePolicy | undefined, target: Target): boolean {
  return (
    policy !== undefined && target.kind === 'host' && decide(policy, target, 0).verdict === 'allow'
  );
}
