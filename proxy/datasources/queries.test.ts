import assert from 'node:assert/strict';
import { request } from 'node:http';
import { type TestContext, test } from 'node:test';
import {
  type AskOptions,
  BOUNDARY,
  datasource,
  egressPolicy,
  ROLE,
  type Seen,
  startMesh,
  startOrigin,
} from '../testing.ts';

// What ClickHouse, Prometheus and Loki get of a program's request. With the real servers: test/parts/datasources-*.test.ts.

const SECRET = 'pa55-word';
const LIMITS = { rate: '6000/min', burst: 100 };

async function queryMesh(t: TestContext, answer?: Parameters<typeof startOrigin>[1]) {
  const origin = await startOrigin(t, answer);
  const endpoint = `http://127.0.0.1:${origin.port}/base`;
  const mesh = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        {
          id: 'events',
          datasource: 'clickhouse/main',
          tables: ['app.events'],
          settings: ['max_threads'],
          limits: { ...LIMITS, rows: 100, queryTime: '30s' },
        },
        { id: 'metrics', datasource: 'prometheus/main', labels: { team: 'a' }, limits: LIMITS },
        { id: 'logs', datasource: 'loki/main', labels: { team: 'a' }, limits: LIMITS },
      ]),
      datasource('clickhouse', 'main', endpoint, {
        auth: { type: 'basic', username: 'reader' },
        secretRef: 'file:secret',
      }),
      ...['prometheus', 'loki'].map((type) =>
        datasource(type, 'main', endpoint, {
          auth: { type: 'bearer' },
          secretRef: 'file:secret',
          tenant: 'acme',
        }),
      ),
    ],
    secrets: { secret: SECRET },
  });
  return { origin, ...mesh };
}

/** The parameters that a server gets, without those that are ours at random. */
function parametersOf(seen: Seen | undefined): [string, string][] {
  const parameters = [...new URL(seen?.url ?? '', 'http://host').searchParams];
  return parameters.filter(([name]) => name !== 'query_id');
}

const CARRIERS = {
  authorization: 'Basic bWU6bWluZQ==',
  'proxy-authorization-too': 'x',
  cookie: 'session=mine',
  'x-auth-user': 'me',
};

test("F2: ClickHouse: our credential in place of the caller's, read-only behind the limits of the rule, the statement as it was", async (t) => {
  const { ask, origin } = await queryMesh(t);
  const got = await ask('/clickhouse/main/?max_threads=1&query_id=theirs&default_format=JSON', {
    method: 'POST',
    headers: CARRIERS,
    body: 'SELECT a FROM app.events',
  });
  assert.equal(got.status, 200, got.body);
  const [seen] = origin.seen;
  assert.deepEqual(parametersOf(seen), [
    ['max_threads', '1'],
    ['default_format', 'JSON'],
    ['max_result_rows', '100'],
    ['max_execution_time', '30'],
    ['readonly', '1'],
  ]);
  const pair = Buffer.from(`reader:${SECRET}`).toString('base64');
  assert.equal(seen?.headers.authorization, `Basic ${pair}`);
  for (const gone of ['cookie', 'x-auth-user']) assert.equal(seen?.headers[gone], undefined, gone);
  assert.ok(!seen?.url.includes('theirs'));
  assert.equal(seen?.body, 'SELECT a FROM app.events');
});

test('ClickHouse: a statement with granted SETTINGS may choose them, and is read-only all the same', async (t) => {
  const { ask, origin } = await queryMesh(t);
  const statement = 'SELECT a FROM app.events SETTINGS max_threads = 1';
  assert.equal((await ask(`/clickhouse/main/?query=${encodeURIComponent(statement)}`)).status, 200);
  assert.deepEqual(parametersOf(origin.seen[0]).at(-1), ['readonly', '2']);
  assert.equal(origin.seen[0]?.method, 'POST', 'a GET would be read-only in another way before');
});

const POST = (body: string | Buffer, headers = {}): AskOptions => ({
  method: 'POST',
  body,
  headers,
});
const REFUSED: readonly (readonly [string, string, string, AskOptions])[] = [
  ['header_forbidden', 'a user in a header', '', { headers: { 'x-clickhouse-user': 'default' } }],
  ['header_forbidden', 'a key in a header', '', { headers: { 'X-ClickHouse-Key': '' } }],
  ['header_forbidden', 'a database in a header', '', { headers: { 'x-clickhouse-database': 'x' } }],
  ['ch_param_forbidden', 'a user in the URL', 'user=default&', {}],
  ['ch_param_forbidden', 'a password in the URL', 'password=&', {}],
  ['ch_param_forbidden', 'a database in the URL', 'database=system&', {}],
  ['ch_param_forbidden', 'a role', 'role=admin&', {}],
  ['ch_param_forbidden', 'a running query to replace', 'replace_running_query=1&', {}],
  ['ch_param_forbidden', 'compression of the body', 'decompress=1&', {}],
  ['ch_setting_forbidden', 'read-only switched off', 'readonly=0&', {}],
  ['param_duplicate', 'a granted setting twice', 'max_threads=1&max_threads=2&', {}],
  ['ch_split_query', 'half of the statement in the body', '', POST(' FROM app.events')],
];
for (const [reason, what, parameters, options] of REFUSED)
  test(`F2: ClickHouse: ${reason}: ${what}, and nothing is dialled`, async (t) => {
    const { ask, origin } = await queryMesh(t);
    const got = await ask(`/clickhouse/main/?${parameters}query=SELECT+1`, options);
    assert.equal(got.error.reason, reason, got.body);
    assert.equal(origin.seen.length, 0);
  });

const BEHIND = ' UNION ALL SELECT name FROM system.users ';
for (const [path, framing] of [
  ['/clickhouse/main/?query=SELECT+1', { 'content-length': `${BEHIND.length}` }],
  ['/clickhouse/main/?query=SELECT+1', { 'transfer-encoding': 'chunked' }],
  [
    '/prometheus/main/api/v1/query?query=up%7Bteam%3D%22a%22%7D',
    { 'content-length': `${BEHIND.length}` },
  ],
  ['/loki/main/loki/api/v1/query?query=%7Bteam%3D%22a%22%7D', { 'transfer-encoding': 'chunked' }],
] as const)
  test(`F2: ${path}: a body by ${Object.keys(framing)[0]} with a GET, which nobody looks at, is refused; without it the GET is answered`, async (t) => {
    const { ask, origin } = await queryMesh(t);
    const got = await ask(path, { body: BEHIND, headers: framing });
    assert.equal(got.error.reason, 'query_not_understood', got.body);
    assert.equal(origin.seen.length, 0);
    assert.equal((await ask(path)).status, 200, 'control');
  });

const BODIES: readonly (readonly [string, string, AskOptions])[] = [
  ['sql_multi_statement', 'two statements', POST('SELECT 1; SELECT 2')],
  ['sql_not_readonly', 'a write', POST('INSERT INTO app.events VALUES (1)')],
  ['table_not_granted', 'another table', POST('SELECT * FROM system.users')],
  ['sql_function_forbidden', 'a function that reaches out', POST("SELECT * FROM url('http://x/')")],
  ['encoded_body_forbidden', 'a compressed body', POST('SELECT 1', { 'content-encoding': 'gzip' })],
  ['query_malformed', 'bytes that are no text', POST(Buffer.from([0x53, 0xff, 0xfe]))],
];
for (const [reason, what, options] of BODIES)
  test(`F2: ClickHouse: ${reason}: ${what}`, async (t) => {
    const { ask, origin } = await queryMesh(t);
    const got = await ask('/clickhouse/main/', options);
    assert.equal(got.error.reason, reason, got.body);
    assert.equal(origin.seen.length, 0);
  });

test('what ClickHouse says of a failure does not show our credential', async (t) => {
  const pair = Buffer.from(`reader:${SECRET}`).toString('base64');
  const { ask } = await queryMesh(t, (_seen, response) => {
    response.statusCode = 500;
    response.end(`Code: 193. Wrong password ${SECRET} for user reader, header Basic ${pair}`);
  });
  const got = await ask('/clickhouse/main/?query=SELECT+1');
  assert.equal(got.status, 500);
  assert.match(got.body, /^Code: 193\. Wrong password \*+ for user reader, header Basic \*+$/);
});

test('a caller that leaves, and the query is killed by the name that we gave it', async (t) => {
  const { addresses, token, origin } = await queryMesh(t, (seen, response) => {
    if (seen.body.startsWith('KILL')) response.end();
  });
  const socketPath = addresses.listen.kind === 'unix' ? addresses.listen.path : '';
  const headers = { host: 'x', 'proxy-authorization': `Bearer ${await token()}` };
  const sent = request({ socketPath, path: '/clickhouse/main/', method: 'POST', headers });
  sent.on('error', () => {});
  sent.end('SELECT a FROM app.events');
  await until(() => origin.seen.length === 1);
  sent.destroy();
  await until(() => origin.seen.length === 2);
  const [asked, killed] = origin.seen;
  const id = new URL(asked?.url ?? '', 'http://host').searchParams.get('query_id') ?? '';
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.equal(killed?.body, `KILL QUERY WHERE query_id = '${id}' ASYNC`);
  assert.equal(killed?.url, '/base/');
  assert.equal(killed?.headers.authorization, asked?.headers.authorization);
});

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error('not in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const METRICS: readonly (readonly [string, string])[] = [
  ['prometheus', '/api/v1/query'],
  ['loki', '/loki/api/v1/query'],
];
for (const [type, path] of METRICS)
  test(`F2: ${type}: our credential and our tenant, the query as it was in URL and form; the tenant is not the caller's to name`, async (t) => {
    const { ask, origin } = await queryMesh(t);
    const query = `query=${encodeURIComponent('{team="a", app="x"}')}`;
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    assert.equal((await ask(`/${type}/main${path}?${query}`, { headers: CARRIERS })).status, 200);
    assert.equal((await ask(`/${type}/main${path}`, POST(query, form))).status, 200);
    const [got, posted] = origin.seen;
    assert.equal(got?.url, `/base${path}?${query}`);
    assert.equal(posted?.body, query);
    for (const seen of origin.seen) {
      assert.equal(seen.headers.authorization, `Bearer ${SECRET}`);
      assert.equal(seen.headers['x-scope-orgid'], 'acme');
      assert.equal(seen.headers.cookie, undefined);
    }
    const other = await ask(`/${type}/main${path}?${query}`, { headers: { 'x-scope-orgid': 'b' } });
    assert.equal(other.error.reason, 'header_forbidden');
    const all = await ask(`/${type}/main${path}?query=${encodeURIComponent('{app="x"}')}`);
    assert.equal(all.error.reason, 'label_not_enforced');
    assert.equal(origin.seen.length, 2);
  });

test('F2: an answer is streamed: its beginning is there before its end is', async (t) => {
  let finish = (): void => {};
  const { addresses, token } = await queryMesh(t, (_seen, response) => {
    response.write('first');
    finish = () => void response.end(' last');
  });
  const socketPath = addresses.listen.kind === 'unix' ? addresses.listen.path : '';
  const headers = { host: 'x', 'proxy-authorization': `Bearer ${await token()}` };
  const text = await new Promise<string>((resolve, reject) => {
    const sent = request({ socketPath, path: '/clickhouse/main/?query=SELECT+1', headers });
    sent.on('error', reject);
    sent.on('response', (response) => {
      let body = '';
      response.on('data', (piece: Buffer) => {
        if (body === '') finish();
        body += piece.toString();
      });
      response.on('end', () => resolve(body));
    });
    sent.end();
  });
  assert.equal(text, 'first last');
});
