import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDocuments } from './check.ts';
import type { AllowRuleSpec, BoundarySpec, DenyRuleSpec, EgressPolicySpec } from './document.ts';
import { boundary, datasource, documents, egress } from './fixture.ts';
import { compilePolicySet } from './policy-set.ts';
import { formatDocumentPath } from './problem.ts';

const REQUESTS = { methods: ['GET'], paths: 'any' } as const;
const API: AllowRuleSpec = { id: 'api', hosts: ['api.example.com'], ...REQUESTS };
const BELOW: AllowRuleSpec = { id: 'api', hosts: ['*.example.com'], ...REQUESTS };
const RANGE: AllowRuleSpec = { id: 'api', cidrs: ['203.0.113.0/24'], ...REQUESTS };
const TUNNEL: AllowRuleSpec = { id: 'tunnel', hosts: ['api.example.com'], protocols: ['tunnel'] };
const DATASOURCE: AllowRuleSpec = { id: 'data', datasource: 'http/main' };

/** A policy under a Boundary. */
function under(
  ceiling: BoundarySpec,
  allow: readonly AllowRuleSpec[],
  deny: readonly DenyRuleSpec[] = [],
  spec: Partial<EgressPolicySpec> = {},
) {
  return documents({
    egressPolicies: [egress('one', allow, deny, spec)],
    datasources: [datasource('http', 'main')],
    boundaries: [boundary('org', ceiling)],
  });
}

function problemsOf(from: ReturnType<typeof documents>): string[] {
  return checkDocuments(from).map(({ path, message }) => `${formatDocumentPath(path)}: ${message}`);
}

type Case = readonly [
  what: string,
  ceiling: BoundarySpec,
  allow: readonly AllowRuleSpec[],
  deny?: readonly DenyRuleSpec[],
  spec?: Partial<EgressPolicySpec>,
];

const DENY_X: DenyRuleSpec = { id: 'not-x', hosts: ['x.example.com'] };

const within: readonly Case[] = [
  [
    'a wildcard around a never-host that the policy denies',
    { neverHosts: ['x.example.com'] },
    [BELOW],
    [DENY_X],
  ],
  [
    'a wildcard around a never-host of which it denies as much as it allows',
    { neverHosts: ['x.example.com'] },
    [{ ...BELOW, paths: ['/a/*'] }],
    [{ ...DENY_X, methods: ['GET', 'PUT'], paths: ['/a/**'] }],
  ],
  [
    'any method, less those beyond the ceiling',
    { mayMethods: ['GET'] },
    [{ ...API, methods: 'any' }],
    [{ id: 'd', methods: ['HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] }],
  ],
  [
    'a range of which the rule opens no private part',
    { mayPrivate: ['192.168.0.0/16'] },
    [{ ...RANGE, cidrs: ['0.0.0.0/0'] }],
  ],
  ['a tunnel that another rule looks into', { mayTunnel: false }, [API, TUNNEL]],
  [
    'a name under a never-range: what it leads to is seen later',
    { neverCidrs: ['0.0.0.0/0'] },
    [API],
  ],
  ['a datasource under a ceiling of hosts', { mayHosts: ['api.example.com'] }, [DATASOURCE]],
];
for (const [what, ...rest] of within)
  test(`${what} is within`, () => assert.deepEqual(problemsOf(under(...rest)), []));

const beyond: readonly (readonly [...Case, RegExp])[] = [
  [
    'a wildcard around a never-host',
    { neverHosts: ['vault.example.com'] },
    [BELOW],
    [],
    {},
    /^spec\.allow\[0\]\.hosts\[0\]: the Boundary "org" refuses "GET https:\/\/vault\.example\.com\/" by `neverHosts`, and this rule allows it: name less here, or refuse that by a deny rule of this policy$/,
  ],
  [
    'a never-host of which the policy denies a part',
    { neverHosts: ['x.example.com'] },
    [BELOW],
    [{ ...DENY_X, paths: ['/', '/*', '/*/*/**'] }],
    {},
    /refuses "GET https:\/\/x\.example\.com\/any\/" by `neverHosts`/,
  ],
  [
    'a never-host that is denied in report mode alone',
    { neverHosts: ['x.example.com'] },
    [BELOW],
    [DENY_X],
    { mode: 'report', until: '2030-01-01' },
    /by `neverHosts`, and this rule allows it: name less here \(deny rules of a policy that only reports do not count\)$/,
  ],
  [
    'a wildcard wider than the ceiling',
    { mayHosts: ['api.example.com', '*.a.example.com'] },
    [BELOW],
    [],
    {},
    /hosts\[0\]: .* refuses "GET https:\/\/any\.example\.com\/" by `mayHosts`/,
  ],
  [
    'a public range under a ceiling of hosts',
    { mayHosts: ['*.example.com'] },
    [RANGE],
    [],
    {},
    /cidrs: .* refuses "GET https:\/\/203\.0\.113\.0\/" by `mayHosts`/,
  ],
  [
    'a range around a never-range',
    { neverCidrs: ['203.0.113.64/28'] },
    [RANGE],
    [],
    {},
    /cidrs: .* refuses "GET https:\/\/203\.0\.113\.64\/" by `neverCidrs`/,
  ],
  [
    'private addresses that the Boundary does not list',
    { mayPrivate: ['10.0.0.0/9'] },
    [{ ...RANGE, cidrs: ['10.0.0.0/8'], allowPrivate: true }],
    [],
    {},
    /cidrs: .* refuses "GET https:\/\/10\.128\.0\.0\/" by `mayPrivate`/,
  ],
  [
    'a datasource with more methods than the ceiling',
    { mayMethods: ['GET'] },
    [DATASOURCE],
    [],
    {},
    /datasource: .* refuses "HEAD \/http\/main\/" by `mayMethods`/,
  ],
  [
    'the port of http on the never-list',
    { neverPorts: [80] },
    [{ ...API, scheme: 'http' }],
    [],
    {},
    /scheme: .* refuses "GET http:\/\/api\.example\.com\/" by `neverPorts`/,
  ],
  [
    'a tunnel',
    { mayTunnel: false },
    [TUNNEL],
    [],
    {},
    /protocols: .* refuses "CONNECT api\.example\.com:443" by `mayTunnel`/,
  ],
  [
    'a policy without an end',
    { maxExpiryDays: 30 },
    [API],
    [],
    {},
    /^metadata\.name: the Boundary "org" wants `expires` at most 30 days ahead/,
  ],
];
for (const [what, ceiling, allow, deny, spec, expected] of beyond)
  test(`${what} is beyond, and an example says so`, () => {
    const from = under(ceiling, allow, deny, spec);
    const problems = problemsOf(from);
    assert.ok(
      problems.some((line) => expected.test(line)),
      problems.join('\n') || 'nothing was found',
    );
    assert.throws(() => compilePolicySet(from, 'd'), { code: 'POLICY_INVALID' });
    // Without the ceiling it loads.
    compilePolicySet(under({ mayPrivate: ['10.0.0.0/8'] }, allow, deny, spec), 'd');
  });

test('expires may be as far ahead as the Boundary says, to the day, and time that passes breaks nothing', () => {
  const from = (expires: string) =>
    documents({
      egressPolicies: [egress('one', [API], [], {}, { expires })],
      boundaries: [boundary('org', { maxExpiryDays: 30 })],
    });
  const problems = (nowMs: number, expires: string) => checkDocuments(from(expires), nowMs).length;
  const noon = Date.UTC(2026, 10, 1, 12);
  assert.equal(problems(noon, '2026-12-01'), 0);
  assert.equal(problems(noon, '2026-12-02'), 1);
  assert.equal(problems(noon + 86_400_000, '2026-12-02'), 0);
  assert.equal(
    problems(Date.UTC(2099, 0, 1), '2026-12-01'),
    0,
    'what is over is not too far ahead',
  );
  assert.throws(() => compilePolicySet(from('2026-12-02'), 'd', noon), { code: 'POLICY_INVALID' });
  assert.equal(compilePolicySet(from('2026-12-01'), 'd', noon).digest, 'd');
});
