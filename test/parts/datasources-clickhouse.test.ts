import assert from 'node:assert/strict';
import { type ExecFileException, execFile } from 'node:child_process';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '#core/package-root';
import { type ClickhouseServer, startClickhouse } from '../support/clickhouse.ts';
import { type DataPath, startDataPath } from '../support/data-path.ts';
import { openDoorPort } from '../support/door-port.ts';
import { analystPolicies, loopbackDatasource } from '../support/policies.ts';

// ClickHouse's own client and server, with a real sidecar and a real proxy between them. The server is Debian's, 18.16: its HTTP interface is
// the real one, and old. OUTRIDER_DATASOURCE_CLIENTS is the directory that the client was installed into; `.ci/run` makes it.

const PEERS = process.env['OUTRIDER_DATASOURCE_CLIENTS'] ?? '';
const POLICY = (endpoint: string) =>
  analystPolicies(
    [
      {
        id: 'events',
        datasource: 'clickhouse/main',
        tables: ['app.events', 'app.many', 'app.slow'],
        settings: ['max_threads'],
        functions: ['sleepEachRow'],
        limits: { rate: '6000/min', burst: 1000, rows: 100, queryTime: '60s' },
      },
    ],
    [
      loopbackDatasource('clickhouse', 'main', endpoint, {
        auth: { type: 'basic', username: 'outrider' },
        secretRef: 'file:clickhouse',
      }),
    ],
  );

let server: ClickhouseServer;
let path: DataPath;
let door: Awaited<ReturnType<typeof openDoorPort>>;
before(async () => {
  server = await startClickhouse();
  for (const statement of [
    'CREATE DATABASE app',
    'CREATE TABLE app.events (a Int32) ENGINE = Memory',
    'CREATE TABLE app.secrets (a Int32) ENGINE = Memory',
    'INSERT INTO app.events VALUES (1), (2)',
    'CREATE TABLE app.slow (a Int32) ENGINE = Memory',
    // Each is a block of its own, and sleeps by itself.
    ...Array.from({ length: 60 }, () => 'INSERT INTO app.slow VALUES (1)'),
    'CREATE TABLE app.many (a UInt64) ENGINE = Memory',
    'INSERT INTO app.many SELECT number FROM system.numbers LIMIT 101',
  ])
    await server.ask(statement);
  path = await startDataPath(POLICY(server.url), {}, { secrets: { clickhouse: server.password } });
  door = await openDoorPort(await path.sandbox('analyst'));
});
after(async () => {
  await door?.close();
  await path?.stop();
  await server?.stop();
});

const ask = (query: string, init: RequestInit = {}) =>
  fetch(`${door.url}/clickhouse/main/${query}`, init);

test("F2: ClickHouse's own client reads what is granted, and nothing else gets to the server", async () => {
  const out = await new Promise<string>((resolve, reject) => {
    const done = (error: ExecFileException | null, stdout: string, stderr: string) =>
      error ? reject(new Error(stderr || error.message)) : resolve(stdout);
    const file = join(packageRoot, 'test/parts/datasources/clickhouse-client.mjs');
    const argv = [file, `${door.url}/clickhouse/main/`, PEERS];
    execFile(process.execPath, argv, { timeout: 60_000 }, done);
  });
  assert.deepEqual(JSON.parse(out), {
    'granted table': [{ a: 1 }, { a: 2 }],
    'other table': 'table_not_granted',
    insert: 'sql_not_readonly',
    'two statements': 'sql_multi_statement',
    setting: 'ch_setting_forbidden',
    parameter: 'ch_param_forbidden',
    session: 'ch_param_forbidden',
  });
  assert.equal(await server.ask('SELECT count() FROM app.events'), '2');
});

test('the limits of the rule hold at the server: more rows than it grants are its own refusal', async () => {
  const many = await ask('', { method: 'POST', body: 'SELECT a FROM app.many' });
  assert.equal(many.status, 500);
  assert.match(await many.text(), /Limit for result/);
  const few = await ask('', { method: 'POST', body: 'SELECT a FROM app.many WHERE a < 100' });
  assert.equal(few.status, 200);
  await few.text();
});

test('the server has it read-only, and takes a setting that is granted, in the URL and in the statement', async () => {
  const level = "SELECT value FROM system.settings WHERE name = 'readonly'";
  const got = await ask(`?query=${encodeURIComponent('SELECT 1 SETTINGS max_threads = 1')}`);
  assert.equal(await got.text(), '1\n');
  assert.equal(await (await ask('?query=SELECT+3')).text(), '3\n', 'a GET, too');
  const inUrl = await ask('?max_threads=1', { method: 'POST', body: 'SELECT 2' });
  assert.equal(await inUrl.text(), '2\n');
  // The control: what is added is what makes the server refuse.
  await assert.rejects(() =>
    server.ask(`${level} SETTINGS readonly = 1, max_threads = 1`).then((text) => {
      throw new Error(text);
    }),
  );
});

test('a wrong password of ours is said by the server, and what it says is covered', async () => {
  const got = await ask('?query=SELECT+nothing', {
    headers: { authorization: 'Basic bWU6bWluZQ==' },
  });
  const text = await got.text();
  assert.ok(got.status >= 400);
  assert.ok(!text.includes(server.password));
});

const RUNNING = `SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%' AND query NOT LIKE '%processes%'`;

test('a caller that leaves ends its query at the server soon; a connection that is only cut does not', async () => {
  const slow = 'SELECT sleepEachRow(1) FROM app.slow';
  const authorization = `Basic ${Buffer.from(`outrider:${server.password}`).toString('base64')}`;
  const past = leave(`${server.url}/?max_threads=1`, slow, { authorization });
  await until(async () => (await server.ask(RUNNING)) === '1', 'the control runs');
  past();
  await sleep(1_500);
  assert.equal(await server.ask(RUNNING), '1', 'the server by itself goes on');
  await server.ask(`KILL QUERY WHERE query LIKE '%sleepEachRow%' SYNC`);

  const through = leave(`${door.url}/clickhouse/main/?max_threads=1`, slow, {});
  await until(async () => (await server.ask(RUNNING)) === '1', 'the query runs');
  through();
  await until(async () => (await server.ask(RUNNING)) === '0', 'the query has ended');
});

/** Sends a statement; what it returns leaves without waiting for the answer. */
function leave(url: string, body: string, headers: Record<string, string>): () => void {
  const sent = request(url, { method: 'POST', headers });
  sent.on('error', () => {});
  sent.end(body);
  return () => sent.destroy();
}

/** The statement takes a minute: what happens within forty seconds did not wait for its end. */
async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 40_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await sleep(20);
  }
}
