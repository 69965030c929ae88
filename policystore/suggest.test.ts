import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicySet } from '#policies';
import { parseFiles } from './load.ts';
import { decideCase } from './run-cases.ts';
import { type Refused, suggest } from './suggest.ts';

const about = { apiVersion: 'outrider/v1' };
const ROLE = (name: string) => ({
  ...about,
  kind: 'Role',
  metadata: { name },
  spec: { members: [{ issuer: 'outrider:local' }], sandbox: {} },
});
const POLICY = (name: string, subject: object, spec: object) => ({
  ...about,
  kind: 'EgressPolicy',
  metadata: { name },
  spec: { subjects: [subject], mode: 'enforce', ...spec },
});
const DATASOURCE = {
  ...about,
  kind: 'Datasource',
  metadata: { name: 'main' },
  spec: { type: 'prometheus', endpoint: 'https://metrics.example.com', auth: { type: 'none' } },
};
const ALLOW = [
  { id: 'api', hosts: ['api.example.com'], methods: ['GET'], paths: ['/v1/items'] },
  { id: 'metrics', datasource: 'prometheus/main', methods: ['GET'], paths: ['/api/v1/query'] },
];
const DENY = [{ id: 'no-admin', hosts: ['*.example.com'], paths: ['/admin/**'] }];
const BASE = [
  ROLE('analyst'),
  DATASOURCE,
  POLICY('analyst', { role: 'analyst' }, { allow: ALLOW, deny: DENY }),
];

function setOf(...documents: readonly object[]): PolicySet {
  const text = documents.map((one) => JSON.stringify(one)).join('\n---\n');
  return parseFiles([{ name: 'p.yaml', text }]).set;
}

function refused(
  request: string,
  reason = 'host_not_allowed',
  more: Partial<Refused<number>> = {},
): Refused<number> {
  return { role: 'analyst', tenant: 'acme', request, reason, sources: [1], ...more };
}

function rulesOf(
  set: PolicySet,
  requests: readonly Refused<number>[],
  options: Parameters<typeof suggest>[2] = {},
) {
  return suggest(set, requests, options).policies.flatMap(({ rules }) =>
    rules.map(({ rule }) => rule),
  );
}

const exact: readonly (readonly [string, readonly string[], readonly object[]])[] = [
  [
    'one request is one rule that names it alone',
    ['POST https://api.example.com/v1/items'],
    [
      {
        id: 'api-example-com',
        hosts: ['api.example.com'],
        methods: ['POST'],
        paths: ['/v1/items'],
      },
    ],
  ],
  [
    'paths of the same methods share a rule, and those of others have their own: no pair is allowed that nobody asked for',
    [
      'POST https://api.example.com/a',
      'POST https://api.example.com/b',
      'PUT https://api.example.com/b',
      'PUT https://api.example.com/c',
    ],
    [
      { id: 'api-example-com', hosts: ['api.example.com'], methods: ['POST'], paths: ['/a'] },
      {
        id: 'api-example-com-2',
        hosts: ['api.example.com'],
        methods: ['POST', 'PUT'],
        paths: ['/b'],
      },
      { id: 'api-example-com-3', hosts: ['api.example.com'], methods: ['PUT'], paths: ['/c'] },
    ],
  ],
  [
    'hosts of which the same was asked share a rule, and others do not',
    ['GET https://a.example.com/x', 'GET https://b.example.com/x', 'GET https://c.example.com/y'],
    [
      {
        id: 'a-example-com',
        hosts: ['a.example.com', 'b.example.com'],
        methods: ['GET'],
        paths: ['/x'],
      },
      { id: 'c-example-com', hosts: ['c.example.com'], methods: ['GET'], paths: ['/y'] },
    ],
  ],
  [
    'a port, a scheme and an address are named where they are not the usual',
    ['GET http://a.example.com/x', 'GET https://a.example.com:8443/x', 'GET http://203.0.113.7/x'],
    [
      {
        id: 'a-example-com-http',
        hosts: ['a.example.com'],
        scheme: 'http',
        methods: ['GET'],
        paths: ['/x'],
      },
      {
        id: 'a-example-com',
        hosts: ['a.example.com'],
        ports: [8443],
        methods: ['GET'],
        paths: ['/x'],
      },
      {
        id: 'net-203-0-113-7-32-http',
        cidrs: ['203.0.113.7/32'],
        scheme: 'http',
        methods: ['GET'],
        paths: ['/x'],
      },
    ],
  ],
  [
    'a tunnel is an opaque tunnel to that port',
    ['CONNECT git.example.org:443', 'CONNECT git.example.org:22'],
    [
      { id: 'git-example-org-tunnel', hosts: ['git.example.org'], protocols: ['tunnel'] },
      {
        id: 'git-example-org-tunnel-2',
        hosts: ['git.example.org'],
        ports: [22],
        protocols: ['tunnel'],
      },
    ],
  ],
  [
    'a datasource is named, never its alias',
    ['POST /prometheus/main/api/v1/query', 'GET /prometheus/main/api/v1/labels'],
    [
      {
        id: 'prometheus-main',
        datasource: 'prometheus/main',
        methods: ['POST'],
        paths: ['/api/v1/query'],
      },
      {
        id: 'prometheus-main-2',
        datasource: 'prometheus/main',
        methods: ['GET'],
        paths: ['/api/v1/labels'],
      },
    ],
  ],
];
for (const [fact, requests, rules] of exact)
  test(fact, () => {
    const set = setOf(...BASE);
    assert.deepEqual(
      rulesOf(
        set,
        requests.map((request) => refused(request)),
      ),
      rules,
    );
    // The rules load beside the others, and allow what was asked for.
    const after = setOf(...BASE, POLICY('suggested', { role: 'analyst' }, { allow: rules }));
    for (const request of requests) {
      const { outcome } = decideCase(after, { role: 'analyst', tenant: 'acme' }, request);
      assert.equal(outcome.verdict, 'allow', request);
    }
  });

const PATHS = ['/u/1/x', '/u/2/x', '/u/3/x', '/u/1/y', '/u/2/y', '/z'];

test('segments become * only when asked, and only where three values were seen', () => {
  const requests = PATHS.map((path) => refused(`PUT https://api.example.com${path}`));
  const paths = (generalise: boolean) =>
    rulesOf(setOf(...BASE), requests, { generalise })[0]?.paths;
  assert.deepEqual(paths(false), PATHS.toSorted());
  assert.deepEqual(paths(true), ['/u/*/x', '/u/1/y', '/u/2/y', '/z']);
});

const BOUNDARY = (spec: object) => ({
  ...about,
  kind: 'Boundary',
  metadata: { name: 'acme' },
  spec,
});
const excuses: readonly (readonly [string, string, string, object, string, RegExp])[] = [
  [
    'what the policy allows by now',
    'GET https://api.example.com/v1/items',
    'path_not_allowed',
    {},
    'allowed',
    /analyst\/api allows it/,
  ],
  [
    'what a Boundary forbids',
    'GET https://x.corp.example.com/',
    'host_not_allowed',
    { neverHosts: ['*.corp.example.com'] },
    'boundary',
    /boundary:acme forbids it/,
  ],
  [
    'a host that no Boundary lists',
    'GET https://x.test.example/',
    'host_not_allowed',
    { mayHosts: ['*.example.com'] },
    'boundary',
    /boundary:acme/,
  ],
  [
    'a method beyond a Boundary',
    'PUT https://api.example.com/v1/items',
    'method_not_allowed',
    { mayMethods: ['GET'] },
    'boundary',
    /boundary:acme/,
  ],
  [
    'a tunnel where a Boundary wants none',
    'CONNECT x.example.com:443',
    'host_not_allowed',
    { mayTunnel: false },
    'boundary',
    /no opaque tunnels/,
  ],
  [
    'what a deny rule forbids',
    'GET https://api.example.com/admin/x',
    'path_not_allowed',
    {},
    'denied',
    /analyst\/no-admin/,
  ],
  [
    'what is never reachable',
    'GET http://169.254.169.254/',
    'ip_forbidden_class',
    {},
    'other',
    /ip_forbidden_class/,
  ],
  [
    'what no policy refused',
    'CONNECT x.example.org:443',
    'sni_mismatch',
    {},
    'other',
    /sni_mismatch/,
  ],
  [
    'a query, which the audit does not have',
    'GET https://api.example.com/v1/items',
    'query_not_allowed',
    {},
    'other',
    /query_not_allowed/,
  ],
  [
    'a datasource that is not there',
    'GET /http/none/x',
    'alias_unknown',
    {},
    'other',
    /no Datasource http\/none/,
  ],
  [
    'a path that no pattern can say',
    'GET https://api.example.com/a%20b',
    'path_not_allowed',
    {},
    'other',
    /stand for themselves/,
  ],
  [
    'a path with a star of its own',
    'GET https://api.example.com/a*',
    'path_not_allowed',
    {},
    'other',
    /stand for themselves/,
  ],
  ['a target that the audit has cut', '', 'path_not_allowed', {}, 'other', /request target/],
];
for (const [what, request, reason, ceiling, kind, why] of excuses)
  test(`no rule is suggested for ${what}`, () => {
    const documents =
      Object.keys(ceiling).length > 0
        ? [...BASE.filter((one) => one !== DATASOURCE).slice(0, 1), BOUNDARY(ceiling)]
        : BASE;
    const { policies, not } = suggest(setOf(...documents), [refused(request, reason)], {});
    assert.deepEqual(policies, []);
    assert.equal(not[0]?.kind, kind);
    assert.match(not[0]?.why ?? '', why);
  });

test('a role that is not there is said to be none', () => {
  const { not } = suggest(
    setOf(...BASE),
    [refused('GET https://x.example.com/', undefined, { role: 'other' })],
    {},
  );
  assert.equal(not[0]?.why, 'there is no role "other"');
});

test('a tenant is named where the policies of the role name it, and only there', () => {
  const requests = [refused('GET https://x.example.com/')];
  const tenantOf = (subject: object) =>
    suggest(
      setOf(
        ROLE('analyst'),
        POLICY('p', subject, {
          allow: [{ id: 'a', hosts: ['a.example.com'], methods: 'any', paths: 'any' }],
        }),
      ),
      requests,
      {},
    ).policies.map(({ tenant }) => tenant);
  assert.deepEqual(tenantOf({ role: 'analyst' }), [null]);
  assert.deepEqual(tenantOf({ role: 'analyst', tenant: 'acme' }), ['acme']);
});

test('a rule says which existing one it is near to, and by what that misses', () => {
  const { policies } = suggest(
    setOf(...BASE),
    [refused('POST https://api.example.com/v1/items', 'method_not_allowed')],
    {},
  );
  assert.deepEqual(policies[0]?.rules[0]?.near, {
    rule: 'analyst/api',
    misses: 'method POST: the rule has GET',
  });
});

test('where Boundaries want a rate, rules have the lowest', () => {
  const set = setOf(ROLE('analyst'), BOUNDARY({ maxRate: '10/s' }), {
    ...BOUNDARY({ maxRate: '60/min' }),
    metadata: { name: 'b' },
  });
  assert.deepEqual(rulesOf(set, [refused('GET https://x.example.com/')])[0]?.limits, {
    rate: '60/min',
  });
});

const datasourceOf = (type: string, name = 'data') => ({
  ...about,
  kind: 'Datasource',
  metadata: { name },
  spec: { type, endpoint: 'https://data.example.com', auth: { type: 'none' } },
});

const beyondRules = [
  [
    'the administration of Prometheus',
    'prometheus',
    'POST',
    '/api/v1/admin/tsdb/snapshot',
    /no rule opens this of prometheus/,
  ],
  ['a table of ClickHouse', 'clickhouse', 'GET', '/', /for a person to say/],
  ['a key of S3', 's3', 'PUT', '/key', /for a person to say/],
] as const;
for (const [what, type, method, path, why] of beyondRules)
  test(`no rule is suggested for ${what}`, () => {
    const set = setOf(ROLE('analyst'), datasourceOf(type));
    const { policies, not } = suggest(
      set,
      [refused(`${method} /${type}/data${path}`, 'alias_unknown')],
      {},
    );
    assert.deepEqual(policies, []);
    assert.match(not[0]?.why ?? '', why);
  });

test('a rule about a datasource has the labels that the other rules about it have, and there is none where those differ', () => {
  const rule = (id: string, path: string, labels: object) => ({
    id,
    datasource: 'prometheus/data',
    methods: ['GET'],
    paths: [path],
    labels,
  });
  const suggested = (...allow: readonly object[]) => {
    const set = setOf(
      ROLE('analyst'),
      datasourceOf('prometheus'),
      POLICY('p', { role: 'analyst' }, { allow }),
    );
    return rulesOf(set, [refused('GET /prometheus/data/api/v1/series', 'path_not_allowed')]);
  };
  const one = rule('a', '/api/v1/query', { team: 'x' });
  assert.deepEqual(suggested(one)[0]?.labels, { team: 'x' });
  assert.deepEqual(suggested(one, rule('b', '/api/v1/query_range', { team: 'x' })).length, 1);
  assert.deepEqual(suggested(one, rule('b', '/api/v1/query_range', { team: 'y' })), []);
});

test('report mode does not count as allowed', () => {
  const set = setOf(
    ROLE('analyst'),
    POLICY('p', { role: 'analyst' }, { mode: 'report', until: '2999-12-31', allow: [] }),
  );
  assert.equal(rulesOf(set, [refused('GET https://x.example.com/')]).length, 1);
});
