import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { after, before, test } from 'node:test';
import { askDoor, type DataPath, startDataPath } from '../support/data-path.ts';
import { analystPolicies, loopbackDatasource } from '../support/policies.ts';

// The cases of the battery about the words of datasources' queries and about S3, sent to the door of a sandbox: refused with their
// reason, and nothing dialled. Each kind of datasource has its control, which is let through.

interface Sent {
  readonly method?: string;
  readonly target: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

let upstream: Server;
let requests = 0;
let path: DataPath;
let door: string;
before(async () => {
  upstream = createServer((request, response) =>
    request.resume().on('end', () => response.end('{}')),
  );
  // Of a call that is refused not one byte comes; connections alone come from the proxy's own looking after its upstreams.
  upstream.on('request', () => {
    requests += 1;
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  const address = upstream.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP listener');
  path = await startDataPath(
    policy(`http://127.0.0.1:${address.port}`),
    {},
    { secrets: { s3: 'AKIA:secret' } },
  );
  door = await path.sandbox('analyst');
});
after(async () => {
  await path?.stop();
  upstream?.closeAllConnections();
  upstream?.close();
});

function policy(endpoint: string): string {
  const limits = { rate: '6000/min', burst: 1000 } as const;
  return analystPolicies(
    [
      { id: 'clickhouse', datasource: 'clickhouse/prod', tables: ['app.events'], limits },
      { id: 'main', datasource: 'prometheus/main', labels: { tenant: 'a' }, limits },
      {
        id: 'bounded',
        datasource: 'prometheus/bounded',
        limits: { ...limits, range: '24h', step: '10s' },
      },
      { id: 'logs', datasource: 'loki/main', labels: { app: 'x' }, limits },
      {
        id: 's3',
        datasource: 's3/data',
        prefixes: ['tenantA/'],
        operations: ['get', 'list', 'put'],
        limits,
      },
    ],
    [
      loopbackDatasource('clickhouse', 'prod', endpoint),
      loopbackDatasource('prometheus', 'main', endpoint),
      loopbackDatasource('prometheus', 'bounded', endpoint),
      loopbackDatasource('loki', 'main', endpoint),
      loopbackDatasource('s3', 'data', `${endpoint}/bucket`, {
        auth: { type: 'sigv4', region: 'us-east-1' },
        secretRef: 'file:s3',
      }),
    ],
  );
}

async function send({ method = 'GET', target, headers = {}, body }: Sent) {
  const fields = {
    Host: '127.0.0.1:3128',
    ...headers,
    ...(body === undefined ? {} : { 'Content-Length': String(Buffer.byteLength(body)) }),
    Connection: 'close',
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  const answer = await askDoor(
    door,
    `${method} ${encoded(target)} HTTP/1.1\r\n${lines.join('')}\r\n${body ?? ''}`,
  );
  return {
    status: Number(answer.split(' ')[1]),
    reason: /^x-outrider-reason: (\w+)/im.exec(answer)?.[1],
    answer,
  };
}

/** What any client writes for characters that no request line can hold. */
function encoded(target: string): string {
  return target.replace(/[ "{}]/g, (char) => encodeURIComponent(char));
}

const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' };
const CASES: readonly (readonly [id: string, reason: string, Sent])[] = [
  [
    'Q002',
    'header_forbidden',
    {
      target: '/clickhouse/prod/?query=SELECT+1',
      headers: { 'X-ClickHouse-User': 'default', 'X-ClickHouse-Key': '' },
    },
  ],
  [
    'Q003',
    'ch_setting_forbidden',
    { target: '/clickhouse/prod/?readonly=0&allow_ddl=1&query=SELECT+1' },
  ],
  [
    'Q009',
    'sql_setting_forbidden',
    {
      method: 'POST',
      target: '/clickhouse/prod/',
      body: 'SELECT 1 SETTINGS max_execution_time=0, max_result_rows=0',
    },
  ],
  ['Q010', 'path_not_allowed', { target: '/clickhouse/prod/replicas_status' }],
  [
    'Q011',
    'sql_not_readonly',
    { method: 'POST', target: '/clickhouse/prod/', body: 'SYSTEM SHUTDOWN' },
  ],
  [
    'Q013',
    'path_not_allowed',
    { method: 'POST', target: '/prometheus/main/api/v1/admin/tsdb/delete_series?match[]=up' },
  ],
  ['Q015', 'path_not_allowed', { method: 'POST', target: '/prometheus/main/api/v1/write' }],
  [
    'Q016',
    'param_duplicate',
    {
      method: 'POST',
      target: '/prometheus/main/api/v1/query?query=up{tenant="a"}',
      headers: FORM,
      body: 'query=up',
    },
  ],
  [
    'Q017',
    'label_not_enforced',
    { target: '/prometheus/main/api/v1/query?query=up{tenant="a"} or up' },
  ],
  [
    'Q019',
    'header_forbidden',
    {
      target: '/loki/main/loki/api/v1/query_range?query={app="x"}',
      headers: { 'X-Scope-OrgID': 'other|mine' },
    },
  ],
  [
    'Q022',
    'query_budget',
    {
      target: '/prometheus/bounded/api/v1/query_range?query=up&start=0&end=9999999999&step=0.001',
    },
  ],
  ['Z001', 'path_malformed', { method: 'PUT', target: '/s3/data/../other/secret' }],
  [
    'Z002',
    's3_copy_source_forbidden',
    { method: 'PUT', target: '/s3/data/k', headers: { 'x-amz-copy-source': '/other/secret' } },
  ],
  [
    'Z003',
    's3_subresource_forbidden',
    { method: 'PUT', target: '/s3/data/k?acl', headers: { 'x-amz-acl': 'public-read' } },
  ],
  ['Z004', 's3_subresource_forbidden', { method: 'POST', target: '/s3/data?delete' }],
  ['Z005', 'host_mismatch', { target: '/s3/data/k', headers: { Host: 'other.s3.amazonaws.com' } }],
  [
    'Z008',
    'sigv4_required',
    {
      method: 'PUT',
      target: '/s3/data/tenantA/k',
      headers: {
        'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
        'Content-Encoding': 'aws-chunked',
      },
    },
  ],
  [
    'Z011',
    'sigv4_required',
    { target: '/s3/data/tenantA/k', headers: { Authorization: 'AWS P:sig' } },
  ],
  [
    'Z014',
    'sigv4_date_skew',
    { target: '/s3/data/tenantA/k', headers: { 'x-amz-date': '20200101T000000Z' } },
  ],
  ['Z015', 's3_prefix_not_allowed', { target: '/s3/data?list-type=2&prefix=tenantB/' }],
];
for (const [id, reason, sent] of CASES)
  test(`${id}: ${reason}: ${sent.target}`, async () => {
    const heard = requests;
    const got = await send(sent);
    assert.equal(got.reason, reason, got.answer);
    assert.ok([400, 403, 415].includes(got.status), got.answer);
    assert.equal(requests, heard, 'the other side heard nothing');
  });

const ALLOWED: readonly Sent[] = [
  { target: '/clickhouse/prod/?query=SELECT+1' },
  { method: 'POST', target: '/clickhouse/prod/', body: 'SELECT 1' },
  { target: '/prometheus/main/api/v1/query?query=up{tenant="a"}' },
  {
    method: 'POST',
    target: '/prometheus/main/api/v1/query',
    headers: FORM,
    body: `query=${encodeURIComponent('up{tenant="a"}')}`,
  },
  { target: '/prometheus/bounded/api/v1/query_range?query=up&start=0&end=1000&step=10' },
  { target: '/loki/main/loki/api/v1/query_range?query={app="x"}' },
  { method: 'PUT', target: '/s3/data/tenantA/k', body: 'x' },
  { target: '/s3/data/tenantA/k' },
  { target: '/s3/data?list-type=2&prefix=tenantA/' },
];
for (const sent of ALLOWED)
  test(`control: ${sent.method ?? 'GET'} ${sent.target} is let through`, async () => {
    const got = await send(sent);
    assert.equal(got.status, 200, got.answer);
  });
