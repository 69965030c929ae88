import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalJson } from './canonical-json.ts';
import { binding, boundary, datasource, documents, egress } from './fixture.ts';
import { parseProjection } from './parse-projection.ts';
import { compilePolicySet, projectRole } from './policy-set.ts';
import { compileRole } from './role-policy.ts';

const SET = compilePolicySet(
  documents({
    egressPolicies: [
      egress(
        'one',
        [
          {
            id: 'api',
            hosts: ['api.example.com'],
            methods: ['GET'],
            paths: ['/v1/*'],
            query: { page: '[0-9]+' },
            credential: 'token',
            limits: { rate: '60/min', burst: 5, responseBytes: '1MiB', duration: '30s' },
          },
          { id: 'metrics', datasource: 'prometheus/main' },
        ],
        [{ id: 'no', hosts: ['no.example.com'] }],
        {},
        { expires: '2030-01-01' },
      ),
    ],
    credentialBindings: [
      binding('token', ['api.example.com'], { secretRef: 'env:THE_SECRET_SLOT' }),
    ],
    datasources: [
      datasource('prometheus', 'main', { endpoint: 'https://upstream.example.com/base' }),
    ],
    boundaries: [boundary('org', { neverHosts: ['never.example.com'] })],
  }),
  'd',
);
const PROJECTION = projectRole(SET, 'analyst', 'acme');

test('a projection survives the wire and compiles to the same policy', () => {
  const there = parseProjection(canonicalJson(PROJECTION));
  assert.deepEqual(there, PROJECTION);
  assert.deepEqual(compileRole(there), compileRole(PROJECTION));
});

test('a projection knows neither endpoint nor secret', () => {
  const text = canonicalJson(PROJECTION);
  assert.ok(text.includes('"token"') && text.includes('"prometheus"'));
  assert.ok(
    !text.includes('upstream') && !text.includes('SECRET_SLOT') && !text.includes('Bearer'),
  );
});

test('limits arrive as numbers', () => {
  assert.deepEqual(PROJECTION.policies[0]?.allow[0]?.limits, {
    rate: { count: 60, perMs: 60_000 },
    burst: 5,
    responseBytes: 1_048_576,
    durationMs: 30_000,
  });
});

const broken: readonly (readonly [string, (text: string) => string])[] = [
  ['text that is not JSON', (text) => text.slice(1)],
  ['another version', (text) => text.replace('"version":1', '"version":2')],
  ['a missing field', (text) => text.replace('"queryStrict":false,', '')],
  ['a missing list of policies', (text) => text.replace('"policies"', '"polices"')],
  [
    'an unknown field',
    (text) => text.replace('"queryStrict":false', '"queryStrict":false,"onlyAtNight":true'),
  ],
  ['an unknown method', (text) => text.replace('["GET"]', '["GTE"]')],
  ['an empty method list that is null', (text) => text.replace('["GET"]', 'null')],
  ['a limit that is text', (text) => text.replace('"burst":5', '"burst":"5"')],
  ['an unknown limit', (text) => text.replace('"burst":5', '"burts":5')],
  ['a port beyond 65535', (text) => text.replace('[443]', '[70000]')],
];
for (const [what, breakIt] of broken) {
  test(`a projection with ${what} is refused`, () => {
    const text = canonicalJson(PROJECTION);
    assert.notEqual(breakIt(text), text, 'the case does break something');
    assert.throws(() => parseProjection(breakIt(text)), { code: 'POLICY_INVALID' });
  });
}

const json = [
  [{ b: 1, a: [true, null, 'x'] }, '{"a":[true,null,"x"],"b":1}'],
  [{ b: undefined, a: 1 }, '{"a":1}'],
  [
    { '\u20ac': 1, '\r': 2, '\ud83d\ude00': 3, '\ufb33': 4, '1': 5, '\u00f6': 6 },
    '{"\\r":2,"1":5,"ö":6,"€":1,"😀":3,"\ufb33":4}',
  ],
  [[1e21, 0.1, -0, 1e-7, 333333333.3333333], '[1e+21,0.1,0,1e-7,333333333.3333333]'],
  ['\u0007"\\', '"\\u0007\\"\\\\"'],
] as const;
for (const [value, expected] of json) {
  test(`canonical JSON of ${JSON.stringify(value)}`, () =>
    assert.equal(canonicalJson(value), expected));
}
test('canonical JSON refuses what JSON cannot say', () => {
  for (const value of [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    1n,
    () => 1,
    '\ud800',
    { '\udc00': 1 },
    [undefined],
  ]) {
    assert.throws(() => canonicalJson(value), TypeError);
  }
});
