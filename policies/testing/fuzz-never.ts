import { decide } from '../decide.ts';
import type { NeverSpec, PolicyTest } from '../document.ts';
import { boundary, datasource, documents } from '../fixture.ts';
import { parseIp } from '../ip.ts';
import { denyApplies } from '../match.ts';
import { neverViolations } from '../never.ts';
import { authorize } from '../permit.ts';
import { compilePolicySet, type PolicySet, rolePolicy } from '../policy-set.ts';
import { eachPolicy } from '../project.ts';
import { compileRole, type DenyRule } from '../role-policy.ts';
import type { Target } from '../target.ts';
import type { Findings } from './findings.ts';
import { Random } from './random.ts';
import { REFS, REQUESTS, RESOLVED, randomDeny, randomPolicy, targetOf } from './small-world.ts';

/**
 * `never` clauses, against deciding every request of a small world: a clause is broken where something is allowed that a deny rule
 * of the same words would refuse. A violation must name such a request.
 */
export function fuzzNever(cases: number, seed: number, judge = neverViolations): Findings {
  const random = new Random(seed);
  const differences: string[] = [];
  const seen = new Map<string, number>();
  for (let i = 0; i < cases; i++) {
    const { id: _id, ...deny } = randomDeny(random, 'n');
    const everyHost = !deny.datasource && !deny.hosts && !deny.cidrs && random.once(2);
    const clause: NeverSpec = everyHost ? { ...deny, hosts: ['**'] } : deny;
    const set = randomSet(random, clause);
    const policy = rolePolicy(set, 'analyst', '');
    const rule = asRule(deny);
    const isBroken = (target: Target, address?: string): boolean => {
      if (everyHost && target.kind === 'datasource') return false;
      const decision = decide(policy, target, 0);
      if (decision.verdict === 'deny' || decision.intercept) return false;
      const own = target.kind === 'datasource' ? null : target.host.ip;
      const ip = address === undefined ? own : (parseIp(address) ?? null);
      if (address !== undefined && ip && authorize(policy, target, 0).addressRefusal(ip))
        return false;
      return denyApplies(rule, target, true, ip);
    };
    const [test] = set.documents.tests;
    const found = test ? judge(set, test) : [];
    const unreal = found.filter(
      ({ example }) => !isBroken(targetOf(example.request), example.resolve),
    );
    const missed = REQUESTS.find(
      ({ target }) =>
        isBroken(target) ||
        (target.kind !== 'datasource' &&
          target.host.ip === null &&
          clause.cidrs &&
          RESOLVED.some((address) => isBroken(target, address))),
    );
    if (unreal.length > 0 || (missed && found.length === 0)) {
      const policies = set.documents.egressPolicies.map(({ spec }) => spec);
      differences.push(JSON.stringify({ unreal, missed: missed?.text, clause, policies }));
    }
    const verdict = found.length > 0 ? 'broken' : 'holds';
    seen.set(verdict, (seen.get(verdict) ?? 0) + 1);
  }
  return { cases, differences, seen };
}

function randomSet(random: Random, clause: NeverSpec): PolicySet {
  const test: PolicyTest = {
    apiVersion: 'outrider/v1',
    kind: 'PolicyTest',
    metadata: { name: 't' },
    spec: {
      as: { role: 'analyst' },
      cases: [{ name: 'c', request: 'GET /http/none/', expect: { verdict: 'deny' } }],
      never: [clause],
    },
  };
  return compilePolicySet(
    documents({
      egressPolicies: random.times(1 + random.below(2), (i) => randomPolicy(random, `p${i}`, null)),
      boundaries: [boundary('org', { mayPrivate: ['0.0.0.0/0'] })],
      datasources: REFS.map((ref) => {
        const [type, name = ''] = ref.split('/');
        return datasource(type === 'http' ? 'http' : 'prometheus', name);
      }),
      tests: [test],
    }),
    'd',
  );
}

/** The clause as the deny rule that it reads like. */
function asRule(deny: NeverSpec): DenyRule {
  const policy = { ...EMPTY, spec: { ...EMPTY.spec, deny: [{ id: 'n', ...deny }] } };
  const [rule] = compileRole({
    version: 1,
    role: 'analyst',
    tenant: '',
    expiresMs: null,
    boundaries: [],
    policies: [...eachPolicy(documents({ egressPolicies: [policy] })).values()],
  }).deny;
  if (!rule) throw new Error('one rule went in');
  return rule;
}

const EMPTY = {
  apiVersion: 'outrider/v1',
  kind: 'EgressPolicy',
  metadata: { name: 'never' },
  spec: { subjects: [{ role: 'analyst' }], mode: 'enforce', allow: [] },
} as const;
