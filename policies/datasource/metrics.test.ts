import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DatasourceType, Method } from '../document.ts';
import { parsePath } from '../path.ts';
import type { Guard, Limits } from '../projection.ts';
import { type DatasourceCall, inspectDatasource } from './index.ts';

/** A call as a table writes it: `GET /path?query`, with the words of parameters unencoded; behind it a form, if any. */
function call(
  type: DatasourceType,
  line: string,
  { body = null, headers = {} }: { body?: string | null; headers?: Record<string, string> } = {},
): DatasourceCall {
  const [method, rest] = [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)];
  const mark = rest.indexOf('?');
  const path = parsePath(mark === -1 ? rest : rest.slice(0, mark));
  assert.ok(typeof path !== 'string');
  const form = 'application/x-www-form-urlencoded';
  const given = { 'content-type': form, ...headers };
  return {
    type,
    name: 'data',
    method: method as Method, // what the table has
    path,
    query: mark === -1 ? null : encode(rest.slice(mark + 1)),
    body: body === null ? null : encode(body),
    header: (name) => new Map(Object.entries(given)).get(name),
  };
}

function encode(text: string): string {
  return encodeURIComponent(text).replaceAll('%3D', '=').replaceAll('%26', '&');
}

function outcome(guard: Guard | null, limits: Limits, one: DatasourceCall): string {
  const found = inspectDatasource(guard, limits, one);
  return found.ok ? (found.query === one.query ? 'pass' : (found.query ?? '')) : found.reason;
}

const ACME: Guard = { type: 'prometheus', labels: { tenant: 'acme' }, endpoints: 'any' };
const Q = 'GET /api/v1/query?query=';

const LABELLED: readonly (readonly [request: string, expected: string])[] = [
  [`${Q}up{tenant="acme"}`, 'pass'],
  [`${Q}up{tenant='acme',job=~"a.*"}`, 'pass'],
  [`${Q}up{tenant=\`acme\`,}`, 'pass'],
  [`${Q}{__name__="up","tenant"="acme"}`, 'pass'],
  [`${Q}{"up", tenant="acme"}`, 'pass'],
  [
    `${Q}sum by (job) (rate(up{tenant="acme"}[5m])) / on (job) group_left up{tenant="acme"} > bool 1`,
    'pass',
  ],
  [`${Q}max_over_time(up{tenant="acme"}[1h:5m] offset 5m @ end())`, 'pass'],
  [`${Q}-up{tenant="acme"} ^ 2 + Inf * 1e-3 and vector(time())`, 'pass'],
  [`${Q}histogram_quantile(0.9, sum(rate(x{tenant="acme"}[5m])) without (le))`, 'pass'],
  [`${Q}label_replace(up{tenant="acme"}, "a", "$1", "b", "(.*)")`, 'pass'],
  [`${Q}1 + 1`, 'pass'],

  [`${Q}up`, 'label_not_enforced'],
  [`${Q}up{tenant="a"} or up`, 'label_not_enforced'],
  [`${Q}up{tenant="acme"} or up`, 'label_not_enforced'],
  [`${Q}up{tenant="acme"} or {__name__=~".+"}`, 'label_not_enforced'],
  [`${Q}up{tenant="other"}`, 'label_not_enforced'],
  [`${Q}up{tenant!="acme"}`, 'label_not_enforced'],
  [`${Q}up{tenant=~"acme"}`, 'label_not_enforced'],
  [`${Q}up{tenant="acm\\u0065"}`, 'label_not_enforced'],
  [`${Q}up{job="tenant=\\"acme\\""}`, 'label_not_enforced'],
  [`${Q}up{}`, 'label_not_enforced'],
  [`${Q}sum(up)`, 'label_not_enforced'],
  [`${Q}sum(rate(up[5m])) by (tenant)`, 'label_not_enforced'],
  [`${Q}sum`, 'label_not_enforced'],
  [`${Q}max_over_time(up[1h:5m])`, 'label_not_enforced'],
  [`${Q}on`, 'label_not_enforced'],
  [`${Q}inf{job="x"}`, 'label_not_enforced'],
  [`${Q}absent(up{tenant="acme"}) or absent(secret)`, 'label_not_enforced'],
  [`${Q}up{tenant="acme"} > bool secret`, 'label_not_enforced'],
  [`${Q}info(up{tenant="acme"})`, 'query_not_understood'],
  [`${Q}up{tenant="acme" or job="x"}`, 'query_not_understood'],
  [`${Q}up{tenant="acme"} # x`, 'query_not_understood'],
  [`${Q}up{tenant="acme"} secret`, 'query_not_understood'],
  [`${Q}up{tenant="acme"`, 'query_not_understood'],
  [`${Q}up{tenant="acme"}}`, 'query_not_understood'],
  [`${Q}:up`, 'query_not_understood'],
  [Q, 'query_not_understood'],
  [`${Q}up{tenant="acme"}&extra_filters[]={tenant="b"}`, 'query_not_understood'],
  [`${Q}up{tenant="acme"}&query=up`, 'param_duplicate'],
  ['GET /api/v1/query', 'label_not_enforced'],
  ['GET /api/v1/series?match[]=up{tenant="acme"}&match[]={tenant="acme",job="a"}', 'pass'],
  ['GET /api/v1/series?match[]=up{tenant="acme"}&match[]=up', 'label_not_enforced'],
  ['GET /api/v1/series?match[]=up{tenant="acme"} or up', 'query_not_understood'],
  ['GET /api/v1/series', 'label_not_enforced'],
  ['GET /api/v1/labels?match[]={tenant="acme"}', 'pass'],
  ['GET /api/v1/labels', 'label_not_enforced'],
  ['GET /api/v1/label/job/values?match[]={tenant="acme"}', 'pass'],
  ['GET /api/v1/label/job/values', 'label_not_enforced'],
  ['GET /api/v1/query_exemplars?query=up{tenant="acme"}&start=1&end=2', 'pass'],
  ['GET /api/v1/format_query?query=up', 'pass'],
  ['GET /api/v1/metadata', 'label_not_enforced'],
  ['GET /api/v1/rules', 'label_not_enforced'],
  ['GET /api/v1/alerts', 'label_not_enforced'],
  ['GET /api/v1/targets', 'path_not_allowed'],
  ['GET /federate?match[]=up', 'path_not_allowed'],
  ['POST /api/v1/admin/tsdb/delete_series?match[]=up', 'path_not_allowed'],
  ['POST /api/v1/write', 'path_not_allowed'],
  ['POST /api/v1/rules', 'method_not_allowed'],
  ['DELETE /api/v1/series?match[]=up', 'method_not_allowed'],
];

for (const [request, expected] of LABELLED)
  test(`${expected}: ${request}`, () =>
    assert.equal(outcome(ACME, {}, call('prometheus', request)), expected));

test('without demanded labels the same queries pass, and what is no query API does not', () => {
  for (const [request, expected] of LABELLED) {
    const structural = ['pass', 'param_duplicate', 'path_not_allowed', 'method_not_allowed'];
    assert.equal(
      outcome(null, {}, call('prometheus', request)),
      structural.includes(expected) ? expected : 'pass',
      request,
    );
  }
});

test('a form is read as the URL is, and the two may not repeat each other', () => {
  const post = (body: string, headers = {}): string =>
    outcome(ACME, {}, call('prometheus', 'POST /api/v1/query', { body, headers }));
  assert.equal(post('query=up{tenant="acme"}\n  or up{tenant="acme"}'), 'pass');
  assert.equal(post('query=up'), 'label_not_enforced');
  assert.equal(post('query=up', { 'content-type': 'text/plain' }), 'encoded_body_forbidden');
  assert.equal(
    post('query=up{tenant="acme"}', { 'content-encoding': 'gzip' }),
    'encoded_body_forbidden',
  );
  const both = call('prometheus', 'POST /api/v1/query?query=up{tenant="a"}', { body: 'query=up' });
  assert.equal(outcome(null, {}, both), 'param_duplicate');
});

test('another tenant of a multi-tenant server is not named', () => {
  const one = call('loki', 'GET /loki/api/v1/query?query={app="x"}', {
    headers: { 'x-scope-orgid': 'other|mine' },
  });
  assert.equal(outcome(null, {}, one), 'header_forbidden');
});

const BOUNDED: readonly (readonly [request: string, expected: string])[] = [
  ['GET /api/v1/query_range?query=up&start=0&end=3600&step=60', 'pass'],
  [
    'GET /api/v1/query_range?query=up&start=2026-11-20T00:00:00Z&end=2026-11-20T01:00:00Z&step=1m',
    'pass',
  ],
  ['GET /api/v1/query_range?query=up&start=0&end=3601&step=60', 'query_budget'],
  ['GET /api/v1/query_range?query=up&start=0&end=9999999999&step=0.001', 'query_budget'],
  ['GET /api/v1/query_range?query=up&start=0&end=3600&step=5', 'query_budget'],
  ['GET /api/v1/query_range?query=up&start=0&end=3600', 'query_budget'],
  ['GET /api/v1/query_range?query=up&end=3600&step=60', 'query_budget'],
  ['GET /api/v1/query_range?query=up&start=yesterday&end=3600&step=60', 'query_not_understood'],
  ['GET /api/v1/query_range?query=up&start=0&end=3600&step=0', 'query_not_understood'],
  ['GET /api/v1/query?query=rate(up[1h])', 'pass'],
  ['GET /api/v1/query?query=rate(up[3600])', 'pass'],
  ['GET /api/v1/query?query=rate(up[61m])', 'query_budget'],
  ['GET /api/v1/query?query=max_over_time(rate(up[1m])[2h:1m])', 'query_budget'],
  ['GET /api/v1/query?query=max_over_time(rate(up[1m])[1h:1s])', 'query_budget'],
  ['GET /api/v1/series?match[]=up', 'query_budget'],
  ['GET /api/v1/series?match[]=up&start=0&end=60', 'pass'],
];

for (const [request, expected] of BOUNDED)
  test(`${expected}, of an hour in steps of 15 s: ${request}`, () =>
    assert.equal(
      outcome(null, { rangeMs: 3_600_000, stepMs: 15_000 }, call('prometheus', request)),
      expected,
    ));

test('a step that no server would serve is refused without any limit', () => {
  const request = 'GET /api/v1/query_range?query=up&start=0&end=9999999999&step=0.001';
  assert.equal(outcome(null, {}, call('prometheus', request)), 'query_budget');
});

test('a query is given up when the rule says, not later', () => {
  const limits = { queryTimeMs: 30_000 };
  const of = (query: string): string => outcome(null, limits, call('prometheus', query));
  assert.equal(of('GET /api/v1/query?query=up'), 'query=up&timeout=30000ms');
  assert.equal(of('GET /api/v1/query?query=up&timeout=10s'), 'pass');
  assert.equal(of('GET /api/v1/query?query=up&timeout=31s'), 'query_budget');
  assert.equal(of('GET /api/v1/query?query=up&timeout=forever'), 'query_budget');
  assert.equal(of('GET /api/v1/labels'), 'pass');
});

test('endpoints that a rule does not name are closed', () => {
  const guard: Guard = { type: 'prometheus', labels: {}, endpoints: ['query'] };
  assert.equal(outcome(guard, {}, call('prometheus', 'GET /api/v1/query?query=up')), 'pass');
  assert.equal(outcome(guard, {}, call('prometheus', 'GET /api/v1/labels')), 'path_not_allowed');
});

const L = 'GET /loki/api/v1/query_range?query=';
const LOGS: readonly (readonly [request: string, expected: string])[] = [
  [`${L}{tenant="acme"}`, 'pass'],
  [`${L}{tenant="acme",app=~"a|b"} |= "err{or" | json | line_format "{{.msg}}"`, 'pass'],
  [`${L}sum by (app) (rate({tenant="acme"} |~ \`x{y\` [5m])) > 1.5`, 'pass'],
  [`${L}{app="x"}`, 'label_not_enforced'],
  [`${L}{tenant="acme"} |= "x" or {app="x"}`, 'label_not_enforced'],
  [`${L}sum(rate({tenant="acme"}[5m])) / sum(rate({app="x"}[5m]))`, 'label_not_enforced'],
  [`${L}{tenant="acme"} |= "a\\" }{app="`, 'pass'],
  [`${L}{tenant="acme"} |= "a" }{app="`, 'query_not_understood'],
  [`${L}{tenant="acme"} # {`, 'query_not_understood'],
  [`${L}{tenant='acme'}`, 'query_not_understood'],
  [`${L}1`, 'query_not_understood'],
  ['GET /loki/api/v1/labels?query={tenant="acme"}', 'pass'],
  ['GET /loki/api/v1/labels', 'label_not_enforced'],
  ['GET /loki/api/v1/label/app/values', 'label_not_enforced'],
  ['GET /loki/api/v1/series?match[]={tenant="acme"}', 'pass'],
  ['GET /loki/api/v1/tail?query={tenant="acme"}', 'path_not_allowed'],
  ['POST /loki/api/v1/push', 'path_not_allowed'],
  ['POST /loki/api/v1/delete?query={tenant="acme"}', 'path_not_allowed'],
];

for (const [request, expected] of LOGS)
  test(`loki ${expected}: ${request}`, () => {
    const guard: Guard = { type: 'loki', labels: { tenant: 'acme' }, endpoints: 'any' };
    assert.equal(outcome(guard, {}, call('loki', request)), expected);
  });

test('Loki counts in nanoseconds where there are so many of them', () => {
  const of = (query: string): string =>
    outcome(null, { rangeMs: 3_600_000 }, call('loki', `${L}{app="x"}&${query}`));
  assert.equal(of('start=1000000000000000000&end=1000003600000000000'), 'pass');
  assert.equal(of('start=1000000000000000000&end=1000003601000000000'), 'query_budget');
  assert.equal(of('start=1000000000&end=1000003600'), 'pass');
  assert.equal(of('since=30d'), 'query_budget');
});

const CLICKHOUSE: Guard = {
  type: 'clickhouse',
  tables: ['analytics.*'],
  functions: [],
  settings: ['max_threads'],
};
const SQL: readonly (readonly [request: string, expected: string, body?: string])[] = [
  ['GET /?query=SELECT 1', 'query=SELECT%201&max_result_rows=10'],
  ['POST /', 'max_result_rows=10', 'SELECT * FROM analytics.a'],
  [
    'POST /?max_threads=2&default_format=JSON',
    'max_threads=2&default_format=JSON&max_result_rows=10',
    'SELECT 1',
  ],
  ['POST /', 'table_not_granted', 'SELECT * FROM system.users'],
  ['POST /', 'sql_not_readonly', 'SYSTEM SHUTDOWN'],
  ['POST /?query=SELECT 1', 'ch_split_query', ' UNION ALL SELECT 2'],
  ['GET /?readonly=0&allow_ddl=1&query=SELECT 1', 'ch_setting_forbidden'],
  ['GET /?query=SELECT 1&query=SELECT 2', 'param_duplicate'],
  ['GET /?user=default&query=SELECT 1', 'ch_param_forbidden'],
  ['GET /?database=secret&query=SELECT 1', 'ch_param_forbidden'],
  ['GET /?param_x=secret&query=SELECT 1', 'ch_param_forbidden'],
  ['GET /', 'query_not_understood'],
  ['GET /replicas_status', 'path_not_allowed'],
  ['PUT /', 'method_not_allowed'],
];

for (const [request, expected, body] of SQL)
  test(`clickhouse ${expected}: ${request} ${body ?? ''}`, () => {
    const { header, ...one } = call('clickhouse', request);
    const sent = { ...one, header, body: body ?? null };
    assert.equal(outcome(CLICKHOUSE, { rows: 10 }, sent), expected);
  });

test('a caller does not name itself to ClickHouse', () => {
  const headers = { 'x-clickhouse-user': 'default', 'x-clickhouse-key': '' };
  const one = call('clickhouse', 'GET /?query=SELECT 1', { headers });
  assert.equal(outcome(CLICKHOUSE, {}, one), 'header_forbidden');
});

const BUCKET: Guard = { type: 's3', prefixes: ['tenantA/'], operations: ['get', 'list', 'put'] };
const S3: readonly (readonly [
  request: string,
  expected: string,
  headers?: Record<string, string>,
])[] = [
  ['GET /tenantA/k', 'pass'],
  ['GET /tenantA/a/b%20c', 'pass'],
  ['HEAD /tenantA/k', 'pass'],
  ['PUT /tenantA/k', 'pass'],
  ['POST /tenantA/k?uploads', 'pass'],
  ['PUT /tenantA/k?partNumber=1&uploadId=x', 'pass'],
  ['GET /?list-type=2&prefix=tenantA/', 'pass'],
  ['GET /?list-type=2&prefix=tenantA/x&delimiter=/', 'pass'],
  ['GET /tenantB/k', 's3_key_not_allowed'],
  ['GET /tenantAB/k', 's3_key_not_allowed'],
  ['GET /tenantA', 's3_key_not_allowed'],
  ['GET /?list-type=2&prefix=tenantB/', 's3_prefix_not_allowed'],
  ['GET /?list-type=2&prefix=tenantA', 's3_prefix_not_allowed'],
  ['GET /?list-type=2&prefix=tenantA/../tenantB/', 'query_malformed'],
  ['GET /?list-type=2&prefix=tenantA/./', 'query_malformed'],
  ['GET /?uploads&prefix=tenantA/..', 'query_malformed'],
  ['GET /?list-type=2&prefix=tenantA/..x/.y', 'pass'],
  ['GET /?list-type=2', 's3_prefix_not_allowed'],
  ['GET /?prefix=tenantA/&marker=tenantA/k&max-keys=2', 'pass'],
  ['GET /?uploads&prefix=tenantA/', 'pass'],
  ['GET /?location', 'pass'],
  ['HEAD /', 'pass'],
  ['GET /?prefix=tenantB/', 's3_prefix_not_allowed'],
  ['GET /?uploads', 's3_prefix_not_allowed'],
  ['GET /', 's3_prefix_not_allowed'],
  ['GET /?location&prefix=tenantA/', 's3_subresource_forbidden'],
  ['HEAD /?prefix=tenantA/', 's3_query_forbidden'],
  ['GET /?list-type=1&prefix=tenantA/', 's3_query_forbidden'],
  ['DELETE /tenantA/k', 'method_not_allowed'],
  ['DELETE /', 'method_not_allowed'],
  ['PUT /', 'method_not_allowed'],
  ['POST /?delete', 's3_subresource_forbidden'],
  ['PUT /tenantA/k?acl', 's3_subresource_forbidden'],
  ['GET /tenantA/k?versionId=1', 's3_subresource_forbidden'],
  ['GET /tenantA/k?x-id=GetObject', 'pass'],
  ['GET /tenantA/k?x-idle=GetObject', 's3_query_forbidden'],
  ['PUT /tenantA/k', 's3_copy_source_forbidden', { 'x-amz-copy-source': '/other/secret' }],
  ['PUT /tenantB/k', 's3_key_not_allowed', { 'x-amz-copy-source': '/data/tenantA/k' }],
  ['GET /tenantA/k', 's3_copy_source_forbidden', { 'x-amz-copy-source': '/data/tenantA/k' }],
  ['GET /tenantA/k?X-Amz-Signature=x', 'sigv4_presigned_forbidden'],
  ['GET /tenantA/k?Signature=x', 'sigv4_presigned_forbidden'],
];

for (const [request, expected, headers = {}] of S3)
  test(`s3 ${expected}: ${request}`, () =>
    assert.equal(outcome(BUCKET, {}, call('s3', request, { headers })), expected));
