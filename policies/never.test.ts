import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDocuments } from './check.ts';
import type { AllowRuleSpec, DenyRuleSpec, NeverSpec, PolicyTest } from './document.ts';
import { boundary, datasource, documents, egress } from './fixture.ts';
import { neverViolations } from './never.ts';
import { compilePolicySet } from './policy-set.ts';
import { formatDocumentPath } from './problem.ts';

const RULES: readonly AllowRuleSpec[] = [
  { id: 'api', hosts: ['*.example.com'], methods: ['GET', 'POST'], paths: ['/api/**'] },
  { id: 'mirror', hosts: ['mirror.example.org'], protocols: ['tunnel'] },
  { id: 'net', cidrs: ['203.0.113.0/24'], methods: ['GET'], paths: 'any' },
  { id: 'data', datasource: 'http/main', methods: ['GET'], paths: ['/v1/**'] },
];
const DENY: readonly DenyRuleSpec[] = [
  { id: 'no-admin', hosts: ['*.example.com'], paths: ['/api/admin/**'] },
  { id: 'no-posts-to-x', hosts: ['x.example.com'], methods: ['POST'] },
  { id: 'no-net', cidrs: ['198.51.100.0/24'] },
];

function testsOf(
  never: readonly NeverSpec[],
  spec: Partial<PolicyTest['spec']> = {},
): PolicyTest[] {
  return [
    {
      apiVersion: 'outrider/v1',
      kind: 'PolicyTest',
      metadata: { name: 't' },
      spec: {
        as: { role: 'analyst' },
        cases: [{ name: 'c', request: 'GET /http/none/', expect: { verdict: 'deny' } }],
        never,
        ...spec,
      },
    },
  ];
}

function from(never: readonly NeverSpec[], spec: Partial<PolicyTest['spec']> = {}) {
  return documents({
    egressPolicies: [
      egress('p', RULES, DENY),
      egress(
        'of-acme',
        [{ id: 'more', hosts: ['*.example.com'], methods: 'any', paths: 'any' }],
        [],
        {
          subjects: [{ tenant: 'acme' }],
        },
      ),
    ],
    boundaries: [boundary('org', { neverCidrs: ['192.0.2.0/24'] })],
    datasources: [datasource('http', 'main')],
    tests: testsOf(never, spec),
  });
}

function violationsOf(clause: NeverSpec, spec: Partial<PolicyTest['spec']> = {}): string[] {
  const set = compilePolicySet(from([clause], spec), 'd');
  const [only] = set.documents.tests;
  assert.ok(only);
  return neverViolations(set, only).map(({ message }) => message);
}

const proven: readonly (readonly [string, NeverSpec])[] = [
  ['a deny rule', { hosts: ['*.example.com'], paths: ['/api/admin/**'] }],
  ['a method that no rule names', { hosts: ['*.example.com'], methods: ['DELETE'] }],
  ['a deny rule for one host of a wildcard', { hosts: ['x.example.com'], methods: ['POST'] }],
  ['a path beside the rule', { paths: ['/other/**'], hosts: ['*.example.com'] }],
  ['a port that no rule names', { hosts: ['**'], ports: [22, 8443] }],
  ['a datasource beside the rule', { datasource: 'http/main', paths: ['/v2/**'] }],
  ['methods of a datasource', { datasource: 'http/main', methods: ['POST'] }],
  ['addresses that a deny rule names', { cidrs: ['198.51.100.0/24'] }],
  ['addresses that a Boundary names', { cidrs: ['192.0.2.0/24'] }],
];
for (const [what, clause] of proven)
  test(`never holds: ${what}`, () => assert.deepEqual(violationsOf(clause), []));

const broken: readonly (readonly [string, NeverSpec, string])[] = [
  [
    'one method of a wildcard',
    { hosts: ['*.example.com'], methods: ['POST'] },
    '"POST https://any.example.com/api" is allowed by the rule "api" of the policy "p"',
  ],
  [
    'what a deny rule leaves',
    { hosts: ['x.example.com'], paths: ['/api/*'] },
    '"GET https://x.example.com/api/any" is allowed by the rule "api" of the policy "p"',
  ],
  [
    'a method, since anything may be asked for in a tunnel',
    { hosts: ['mirror.example.org'], methods: ['DELETE'], paths: ['/x'] },
    '"CONNECT mirror.example.org:443" is allowed by the rule "mirror" of the policy "p"',
  ],
  [
    'every host is every address as well',
    { hosts: ['**'], methods: ['GET'], paths: ['/only/here'] },
    '"GET https://203.0.113.0/only/here" is allowed by the rule "net" of the policy "p"',
  ],
  [
    'a path of a datasource',
    { datasource: 'http/main', paths: ['/*/x'] },
    '"GET /http/main/v1/x" is allowed by the rule "data" of the policy "p"',
  ],
  [
    'a range that a name may lead to',
    { cidrs: ['198.51.0.0/16'] },
    '"GET https://any.example.com/api" is allowed by the rule "api" of the policy "p", should the name lead to 198.51.0.0',
  ],
];
for (const [what, clause, message] of broken)
  test(`never is broken: ${what}`, () =>
    assert.ok(violationsOf(clause).includes(message), violationsOf(clause).join('\n') || 'proven'));

test('a clause is about the tenant and the phase of its test', () => {
  const clause = { hosts: ['*.example.com'], methods: ['DELETE'] } as const;
  assert.deepEqual(violationsOf(clause, { as: { role: 'analyst', tenant: 'other' } }), []);
  assert.match(
    violationsOf(clause, { as: { role: 'analyst', tenant: 'acme' } }).join(),
    /^"DELETE https:\/\/any\.example\.com\/" is allowed by the rule "more" of the policy "of-acme"$/,
  );
  assert.deepEqual(
    violationsOf({ hosts: ['**'] }, { as: { role: 'analyst', phase: 'install' } }),
    [],
  );
});

test('every host is no datasource; a clause without hosts is about both', () => {
  const violations = (clause: NeverSpec) => {
    const set = compilePolicySet(
      documents({
        egressPolicies: [egress('p', [{ id: 'data', datasource: 'http/main' }])],
        datasources: [datasource('http', 'main')],
        tests: testsOf([clause]),
      }),
      'd',
    );
    return set.documents.tests.flatMap((one) => neverViolations(set, one)).length;
  };
  assert.equal(violations({ hosts: ['**'] }), 0);
  assert.equal(violations({ paths: ['/x'] }), 1);
});

const unsound: readonly (readonly [string, NeverSpec, RegExp])[] = [
  ['a host that is none', { hosts: ['*.com'] }, /^spec\.never\[0\]\.hosts\[0\]: a host needs/],
  [
    'every host and another',
    { hosts: ['**', 'a.example.com'] },
    /^spec\.never\[0\]\.hosts: "\*\*" is every host/,
  ],
  [
    'every host and a range',
    { hosts: ['**'], cidrs: ['10.0.0.0/8'] },
    /^spec\.never\[0\]\.hosts: "\*\*" is/,
  ],
  ['a range that is none', { cidrs: ['10.0.0.1/8'] }, /^spec\.never\[0\]\.cidrs\[0\]/],
  ['a path that is none', { paths: ['/a/../b'] }, /^spec\.never\[0\]\.paths\[0\]/],
  [
    'a datasource that is not there',
    { datasource: 'http/mian' },
    /^spec\.never\[0\]\.datasource: .*did you mean "http\/main"/,
  ],
];
for (const [what, clause, expected] of unsound)
  test(`a never-clause with ${what} is a load error`, () => {
    const [problem] = checkDocuments(from([clause]));
    assert.match(`${formatDocumentPath(problem?.path ?? [])}: ${problem?.message}`, expected);
  });
