import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide } from './decide.ts';
import type { AllowRuleSpec, DenyRuleSpec, EgressPolicy, Method } from './document.ts';
import { documents, egress } from './fixture.ts';
import { compilePolicySet, rolePolicy } from './policy-set.ts';
import { hostTarget, type Target, tunnelTarget } from './target.ts';

/**
 * The language again, slowly and plainly: every rule is looked at, patterns become regular expressions, nothing is indexed.
 * It shares no code with the engine.
 */
function reference(policies: readonly EgressPolicy[], call: Call): 'allow' | 'intercept' | 'deny' {
  const allow = policies.flatMap(({ spec }) => spec.allow);
  const deny = policies.flatMap(({ spec }) => spec.deny ?? []);
  if (call.kind === 'request') {
    if (deny.some((rule) => denies(rule, call))) return 'deny';
    return allow.some((rule) => allows(rule, call)) ? 'allow' : 'deny';
  }
  const onPort = allow.filter(
    (rule) =>
      named(rule.hosts ?? [], call.host) &&
      (rule.ports ?? [rule.scheme === 'http' ? 80 : 443]).includes(call.port),
  );
  const seen = onPort.some((rule) => rule.protocols === undefined && rule.scheme !== 'http');
  const blind = onPort.some((rule) => rule.protocols?.includes('tunnel'));
  const refused = deny.some((rule) => {
    if (rule.hosts && !named(rule.hosts, call.host)) return false;
    if (rule.ports && !rule.ports.includes(call.port)) return false;
    const wholly = (rule.methods ?? 'any') === 'any' && (rule.paths ?? 'any') === 'any';
    return wholly || !seen;
  });
  if (refused) return 'deny';
  return seen ? 'intercept' : blind ? 'allow' : 'deny';
}

type Call =
  | {
      readonly kind: 'request';
      readonly scheme: 'http' | 'https';
      readonly host: string;
      readonly port: number;
      readonly method: string;
      readonly path: string;
    }
  | { readonly kind: 'tunnel'; readonly host: string; readonly port: number };
type Request = Extract<Call, { kind: 'request' }>;

function allows(rule: AllowRuleSpec, call: Request): boolean {
  const scheme = rule.scheme ?? 'https';
  return (
    rule.protocols === undefined &&
    named(rule.hosts ?? [], call.host) &&
    scheme === call.scheme &&
    (rule.ports ?? [scheme === 'http' ? 80 : 443]).includes(call.port) &&
    fits(rule, call)
  );
}

function denies(rule: DenyRuleSpec, call: Request): boolean {
  return (
    (rule.hosts === undefined || named(rule.hosts, call.host)) &&
    (rule.ports === undefined || rule.ports.includes(call.port)) &&
    fits(rule, call)
  );
}

function fits(
  { methods = 'any', paths = 'any' }: AllowRuleSpec | DenyRuleSpec,
  call: Request,
): boolean {
  return (
    (methods === 'any' || methods.some((method) => method === call.method)) &&
    (paths === 'any' || paths.some((path) => pathExpression(path).test(call.path)))
  );
}

function named(patterns: readonly string[], host: string): boolean {
  return patterns.some((pattern) =>
    new RegExp(`^${pattern.replaceAll('.', '\\.').replace('*', '.+')}$`).test(host),
  );
}

function pathExpression(pattern: string): RegExp {
  const escaped = pattern.replaceAll('.', '\\.');
  const open = escaped.endsWith('/**');
  const body = (open ? escaped.slice(0, -3) : escaped).replaceAll('*', '[^/]+');
  return new RegExp(`^${body}${open ? '(?:/.*)?' : ''}$`);
}

const HOSTS = [
  'example.com',
  'a.example.com',
  'b.example.com',
  'x.a.example.com',
  'aexample.com',
  'other.test',
];
const PATTERNS = [
  ...HOSTS.filter((host) => host.includes('.')),
  '*.example.com',
  '*.a.example.com',
  '*.other.test',
];
const SEGMENTS = ['a', 'b', 'c'];
const METHODS: readonly Method[] = ['GET', 'POST', 'DELETE'];

test('20 000 random decisions are those of a reference that shares no code with the engine', () => {
  const random = generator(20_261_121);
  const pick = <T>(list: readonly T[]): T => {
    const item = list[random(list.length)];
    assert.ok(item !== undefined);
    return item;
  };
  const some = <T>(list: readonly T[]): T[] => [
    ...new Set(Array.from({ length: 1 + random(2) }, () => pick(list))),
  ];
  const pattern = () =>
    `/${Array.from({ length: random(3) }, () => pick([...SEGMENTS, '*'])).join('/')}`.replace(
      /\/$/,
      '',
    ) + pick(['', '/**', '/']);
  const paths = () =>
    random(4) === 0 ? ('any' as const) : [...new Set(some([1, 2]).map(() => pattern() || '/'))];
  const methods = () => (random(3) === 0 ? ('any' as const) : some(METHODS));
  const ports = () => (random(3) === 0 ? { ports: some([80, 443, 8443]) } : {});
  const allowRule = (id: string): AllowRuleSpec =>
    random(4) === 0
      ? { id, hosts: some(PATTERNS), protocols: ['tunnel'], ...ports() }
      : {
          id,
          hosts: some(PATTERNS),
          ...(random(4) === 0 ? { scheme: 'http' as const } : {}),
          methods: methods(),
          paths: paths(),
          ...ports(),
        };
  const denyRule = (id: string): DenyRuleSpec => ({
    id,
    ...(random(4) === 0
      ? { methods: some(METHODS) }
      : { hosts: some(PATTERNS), methods: methods(), paths: paths() }),
    ...ports(),
  });
  const seen = new Set<string>();
  for (let round = 0; round < 400; round++) {
    const policies = Array.from({ length: 1 + random(2) }, (_, p) =>
      egress(
        `p${p}`,
        Array.from({ length: random(5) }, (_item, i) => allowRule(`a${i}`)),
        Array.from({ length: random(3) }, (_item, i) => denyRule(`d${i}`)),
      ),
    );
    const policy = rolePolicy(
      compilePolicySet(documents({ egressPolicies: policies }), 'd'),
      'analyst',
      '',
    );
    for (let i = 0; i < 50; i++) {
      const [host, port] = [pick(HOSTS), pick([80, 443, 8443])];
      const path =
        `/${Array.from({ length: random(4) }, () => pick(SEGMENTS)).join('/')}${pick(['', '', '/'])}`.replace(
          '//',
          '/',
        );
      const call: Call =
        random(3) === 0
          ? { kind: 'tunnel', host, port }
          : {
              kind: 'request',
              scheme: pick(['http', 'https'] as const),
              host,
              port,
              method: pick(METHODS),
              path,
            };
      const decision = decide(policy, targetOf(call), 0);
      const found =
        decision.verdict === 'deny' ? 'deny' : decision.intercept ? 'intercept' : 'allow';
      const expected = reference(policies, call);
      seen.add(`${call.kind} ${expected}`);
      assert.equal(
        found,
        expected,
        JSON.stringify({ call, policies: policies.map(({ spec }) => spec) }, null, 1),
      );
    }
  }
  assert.equal(seen.size, 5, 'every outcome came up');
});

function targetOf(call: Call): Target {
  const authority = `${call.host}:${call.port}`;
  const canonical =
    call.kind === 'tunnel' ? tunnelTarget(authority) : hostTarget({ ...call, authority });
  assert.ok(canonical.ok);
  return canonical.target;
}

/** Numbers below a bound, the same in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) % below;
  };
}
