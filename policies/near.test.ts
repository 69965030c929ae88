import assert from 'node:assert/strict';
import { test } from 'node:test';
import { datasource, documents, egress } from './fixture.ts';
import { nearTo } from './near.ts';
import { compilePolicySet, rolePolicy } from './policy-set.ts';
import { requestTarget } from './request-line.ts';

const set = compilePolicySet(
  documents({
    egressPolicies: [
      egress('main', [
        {
          id: 'read',
          hosts: ['api.example.com'],
          methods: ['GET', 'HEAD'],
          paths: ['/a/**', '/b/**', '/c', '/d', '/e', '/f'],
        },
        { id: 'net', cidrs: ['203.0.113.0/24'], methods: ['GET'], paths: 'any' },
        { id: 'docs', hosts: ['docs.other.org', '*.example.org'], methods: ['GET'], paths: 'any' },
        { id: 'all', hosts: ['*.example.com'], scheme: 'http', methods: ['GET'], paths: 'any' },
        { id: 'metrics', datasource: 'prometheus/main', methods: ['GET'], paths: ['/api/**'] },
      ]),
    ],
    datasources: [datasource('prometheus', 'main')],
  }),
  'a'.repeat(64),
);
const policy = rolePolicy(set, 'analyst', '');
const READ = {
  rule: 'read',
  hosts: ['api.example.com'],
  scheme: 'https',
  ports: [443],
  methods: ['GET', 'HEAD'],
  paths: ['/a/**', '/b/**', '/c', '/d', '/e'],
};
const ALL = {
  rule: 'all',
  hosts: ['*.example.com'],
  scheme: 'http',
  ports: [80],
  methods: ['GET'],
  paths: 'any',
};
const METRICS = {
  rule: 'metrics',
  datasource: 'prometheus/main',
  methods: ['GET'],
  paths: ['/api/**'],
};

const cases: readonly (readonly [request: string, near: unknown, why: string])[] = [
  ['POST https://api.example.com/z', { rules: [ALL, READ] }, 'every rule for the host'],
  ['CONNECT www.example.com:443', { rules: [ALL] }, 'a wildcard names it, too'],
  [
    'GET https://docs.example.org.uk/',
    { hosts: ['*.example.com', 'docs.other.org', '*.example.org', 'api.example.com'] },
    'no rule names it: what there is',
  ],
  [
    'GET https://example.org/',
    { hosts: ['*.example.org', 'docs.other.org', '*.example.com', 'api.example.com'] },
    'the nearest first',
  ],
  ['DELETE /prometheus/main/api/x', { rules: [METRICS] }, 'the rule for the datasource'],
  ['GET /prometheus/other/api/x', { hosts: ['prometheus/main'] }, 'datasources for a datasource'],
];
for (const [request, near, why] of cases)
  test(`near ${request}: ${why}`, () => {
    const canonical = requestTarget(request);
    assert.ok(canonical.ok);
    assert.deepEqual(nearTo(policy, canonical.target), near);
  });

test('an address, and what leads to one, is never told', () => {
  const canonical = requestTarget('GET https://203.0.113.9/');
  assert.ok(canonical.ok);
  assert.doesNotMatch(JSON.stringify(nearTo(policy, canonical.target)), /203/);
});
