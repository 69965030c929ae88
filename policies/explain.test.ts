import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide } from './decide.ts';
import type { AllowRuleSpec, DenyRuleSpec } from './document.ts';
import { explain } from './explain.ts';
import { boundary, datasource, documents, egress } from './fixture.ts';
import { compilePolicySet, rolePolicy } from './policy-set.ts';
import { requestTarget } from './request-line.ts';

const NOW = Date.parse('2026-11-21T12:00:00Z');

const ALLOW: readonly AllowRuleSpec[] = [
  {
    id: 'read',
    hosts: ['api.example.com'],
    methods: ['GET', 'HEAD'],
    paths: ['/repos/acme/**', '/rate'],
    query: { page: '[0-9]{1,3}' },
  },
  { id: 'plain', scheme: 'http', hosts: ['*.example.com'], methods: ['GET'], paths: 'any' },
  {
    id: 'strict',
    hosts: ['s.example.com'],
    methods: ['GET'],
    paths: 'any',
    query: { q: 'a' },
    queryStrict: true,
  },
  { id: 'tunnel', hosts: ['git.example.com'], ports: [443, 8443], protocols: ['tunnel'] },
  { id: 'net', cidrs: ['203.0.113.0/24'], scheme: 'http', methods: ['GET'], paths: 'any' },
  {
    id: 'inside',
    cidrs: ['10.1.0.0/16'],
    allowPrivate: true,
    scheme: 'http',
    methods: ['GET'],
    paths: 'any',
  },
  { id: 'metrics', datasource: 'prometheus/main', methods: ['GET'], paths: ['/api/**'] },
  { id: 'all-of-it', datasource: 'http/example' },
];
const DENY: readonly DenyRuleSpec[] = [
  { id: 'no-secrets', hosts: ['api.example.com'], paths: ['/repos/acme/secrets/**'] },
  { id: 'no-one', cidrs: ['203.0.113.7/32'] },
  { id: 'no-deletes', methods: ['DELETE'], paths: 'any' },
  { id: 'no-admin', datasource: 'prometheus/main', paths: ['/api/admin/**'] },
  { id: 'no-8443', ports: [8443] },
];
const set = compilePolicySet(
  documents({
    egressPolicies: [egress('main', ALLOW, DENY)],
    datasources: [datasource('prometheus', 'main'), datasource('http', 'example')],
    boundaries: [boundary('acme', { mayPrivate: ['10.0.0.0/8'] })],
  }),
  'a'.repeat(64),
);
const policy = rolePolicy(set, 'analyst', '');

function explained(request: string) {
  const canonical = requestTarget(request);
  assert.ok(canonical.ok, request);
  return explain(policy, canonical.target, NOW);
}

const texts = [
  ['GET https://api.example.com/repos/acme/x', 'read', 'everything fits, and it decides'],
  [
    'POST https://api.example.com/users',
    'read',
    'method POST: the rule has GET, HEAD; path /users: the rule has /repos/acme/**, /rate',
  ],
  [
    'GET https://api.example.com/rate?page=x',
    'read',
    'query this value of page: the rule has [0-9]{1,3}',
  ],
  ['GET https://s.example.com/?q=a&r=b', 'strict', 'query the parameter r: the rule has q'],
  ['GET https://api.example.com:8080/rate', 'read', 'port 8080: the rule has 443'],
  ['GET http://api.example.com:443/rate', 'read', 'scheme http: the rule has https'],
  [
    'GET https://www.example.com/rate',
    'read',
    'host www.example.com: the rule has api.example.com',
  ],
  ['CONNECT git.example.com:22', 'tunnel', 'port 22: the rule has 443, 8443'],
  ['GET http://198.51.100.1/', 'net', 'address 198.51.100.1: the rule has 203.0.113.0/24'],
  [
    'GET /prometheus/other/api/x',
    'metrics',
    'datasource prometheus/other: the rule has prometheus/main',
  ],
  ['GET https://api.example.com/rate', 'metrics', 'datasource none: the rule has prometheus/main'],
  [
    'GET https://api.example.com/repos/acme/secrets/x',
    'read',
    'everything fits, but no-secrets denies',
  ],
  [
    'GET https://api.example.com/repos/acme/secrets/x',
    'no-secrets',
    'everything fits, and it decides',
  ],
  ['GET https://api.example.com/rate', 'no-deletes', 'method GET: the rule has DELETE'],
  ['GET https://api.example.com/rate', 'no-admin', 'datasource none: the rule has prometheus/main'],
  [
    'GET https://api.example.com/rate',
    'no-one',
    'address not known before it is resolved: the rule has 203.0.113.7/32',
  ],
] as const;
for (const [request, id, text] of texts)
  test(`${request}: of ${id} it says "${text}"`, () => {
    const entry = explained(request).rules.find(({ rule }) => rule === id);
    assert.equal(entry?.text, text);
  });

test('a value of a query is not repeated: it may be anything', () => {
  const { rules } = explained('GET https://api.example.com/rate?page=hunter2');
  assert.ok(!JSON.stringify(rules).includes('hunter2'));
});

const METHODS = ['GET', 'HEAD', 'POST', 'DELETE'];
const PLACES = [
  'https://api.example.com',
  'https://api.example.com:8443',
  'http://api.example.com',
  'http://x.y.example.com',
  'http://example.com',
  'https://s.example.com',
  'https://git.example.com:8443',
  'http://203.0.113.7',
  'http://203.0.113.8',
  'http://10.1.2.3',
  'http://10.2.2.3',
  '/prometheus/main',
  '/prometheus/other',
  '/http/example',
];
const PATHS = [
  '/',
  '/rate',
  '/rate/',
  '/rate?page=12',
  '/rate?page=x',
  '/repos/acme',
  '/repos/acme/secrets/x',
  '/api/v1/query?q=a',
  '/api/admin/x',
  '/?q=a&r=b',
];
const TUNNELS = [
  'api.example.com:443',
  'git.example.com:443',
  'git.example.com:8443',
  'x.example.com:80',
  '203.0.113.7:443',
  'other.test:443',
];
const REQUESTS = [
  ...METHODS.flatMap((method) =>
    PLACES.flatMap((place) => PATHS.map((path) => `${method} ${place}${path}`)),
  ),
  ...TUNNELS.map((authority) => `CONNECT ${authority}`),
];

test(`in each of ${REQUESTS.length} requests a rule applies exactly where nothing is missing, and the decision is that of decide`, () => {
  let applied = 0;
  for (const request of REQUESTS) {
    const canonical = requestTarget(request);
    assert.ok(canonical.ok, request);
    const { decision, rules } = explain(policy, canonical.target, NOW);
    assert.deepEqual(decision, decide(policy, canonical.target, NOW), request);
    for (const { rule, applies, misses, decides } of rules) {
      assert.equal(misses.length === 0, applies, `${request}: ${rule}`);
      assert.equal(decides, decision.rule === rule, `${request}: ${rule}`);
      if (applies) applied += 1;
    }
    // Silence, and what no rule opens, are nobody's.
    assert.equal(rules.filter(({ decides }) => decides).length, decision.policy === null ? 0 : 1);
  }
  assert.ok(applied > 200);
});
