import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import { parseAddress } from '#core/address';
import { accepts } from '#core/http';
import { isRecord } from '#core/is-record';
import { createDpopKey, dpopProof } from '#core/testing/dpop-proof';
import { outriderArgv } from '#core/testing/outrider-argv';
import {
  RevocationServiceService,
  type WatchRevocationsRequest,
  WatchRevocationsResponse,
} from '#proto';
import { boundary, egress } from '../../policies/fixture.ts';
import { startIssuer } from '../support/issuer.ts';
import { loopbackDatasource } from '../support/policies.ts';
import { descendantsOf, isAlive } from '../support/processes.ts';
import { apiPolicies, type ProxyProcess, startProxies } from '../support/proxies.ts';
import { until } from '../support/redis.ts';

// Real processes: a proxy of two workers, and requests over sixteen connections, which its primary shares out in turn.

const PATH = '/http/api/x';
type Spec = NonNullable<Parameters<typeof egress>[3]>;

/** An origin that answers at once, or where `hold` says so when it is told. */
async function startOrigin(t: TestContext, hold = false, size = 5) {
  const waiting: ServerResponse[] = [];
  const body = 'x'.repeat(size);
  const server = createServer((_request, response) => {
    if (hold) waiting.push(response);
    else response.end(body);
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it listens on TCP
  const { port } = server.address() as AddressInfo;
  const letGo = (): void => {
    for (const response of waiting.splice(0)) response.end(body);
  };
  return { port, waiting, letGo };
}

/** Policies with one rule for `http/api` there, with these limits and budgets. */
function policies(
  port: number,
  limits?: Readonly<Record<string, number>>,
  spec: Partial<Spec> = {},
) {
  const [role = ''] = apiPolicies(port).split('---\n').filter(Boolean);
  const documents = [
    boundary('organisation', { mayLoopbackDatasources: true }),
    egress(
      'analyst',
      [{ id: 'api', datasource: 'http/api', ...(limits ? { limits } : {}) }],
      [],
      spec,
    ),
    loopbackDatasource('http', 'api', `http://127.0.0.1:${port}`),
  ];
  return [role, ...documents.map((one) => `${JSON.stringify(one)}\n`)].join('---\n');
}

interface Started extends ProxyProcess {
  readonly good: string;
  readonly directory: string;
  /** Statuses of so many requests at once. */
  readonly burst: (count: number) => Promise<number[]>;
}

async function startTwo(
  t: TestContext,
  policy: string,
  config: Readonly<Record<string, unknown>> = {},
): Promise<Started> {
  const proxies = await startProxies({
    count: 1,
    policies: policy,
    config: { workers: 2, 'limits.datasource': 'none', ...config },
  });
  t.after(() => proxies.stop());
  const [one] = proxies.each;
  assert.ok(one);
  const good = await proxies.token();
  const burst = (count: number) =>
    Promise.all(
      Array.from({ length: count }, () => one.ask(PATH, good).then(({ status }) => status)),
    );
  return { ...one, good, directory: proxies.directory, burst };
}

const workersOf = ({ pid }: ProxyProcess): number[] => descendantsOf(pid).map((one) => one.pid);
const count = (statuses: readonly number[], status: number): number =>
  statuses.filter((one) => one === status).length;

async function admin({ adminPort }: ProxyProcess, path: string): Promise<string> {
  return (await fetch(`http://127.0.0.1:${adminPort}${path}`)).text();
}

async function ready(one: ProxyProcess): Promise<Record<string, unknown>> {
  const said: unknown = JSON.parse(await admin(one, '/readyz'));
  assert.ok(isRecord(said));
  return said;
}

async function metric(one: ProxyProcess, series: string): Promise<number> {
  const line = (await admin(one, '/metrics')).split('\n').find((text) => text.startsWith(series));
  return Number(line?.split(' ').at(-1));
}

/** The requests in the audit of each worker. */
function recordsOf({ state }: ProxyProcess): Record<string, unknown>[][] {
  return [1, 2].map((worker) => {
    const path = join(state, 'audit', `proxy-${worker}.jsonl`);
    if (!existsSync(path)) return [];
    return readFileSync(path, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line): unknown => JSON.parse(line))
      .filter(isRecord)
      .filter(({ event }) => event === 'request');
  });
}

async function end(one: ProxyProcess): Promise<void> {
  process.kill(one.pid, 'SIGTERM');
  await until(async () => !isAlive(one.pid));
}

/** `outrider audit verify` of its directory. */
async function verify({ state }: ProxyProcess): Promise<{ code: number; said: string }> {
  const argv = [...outriderArgv(), 'audit', 'verify', join(state, 'audit')];
  const done = promisify(execFile)(process.execPath, argv);
  return done.then(
    ({ stdout }) => ({ code: 0, said: stdout }),
    (failed: { code: number; stdout: string }) => ({ code: failed.code, said: failed.stdout }),
  );
}

test('F6: a rate holds exactly over two workers, their metrics are one, and the audit of both verifies', async (t) => {
  const { port } = await startOrigin(t);
  const one = await startTwo(t, policies(port), { 'limits.datasource': '60/h burst 25' });
  assert.equal(statSync(one.socketPath).mode & 0o007, 0, 'nobody else may call');
  const statuses = await one.burst(100);
  assert.deepEqual([count(statuses, 200), count(statuses, 429)], [25, 75]);
  const [first = [], second = []] = recordsOf(one);
  assert.equal(first.length + second.length, 100);
  assert.ok(first.length > 0 && second.length > 0, `${first.length} and ${second.length}`);
  assert.equal(await metric(one, 'outrider_requests_total{verdict="allow"'), 25);
  assert.equal(await metric(one, 'outrider_requests_total{verdict="limit"'), 75);
  assert.equal(await metric(one, 'outrider_request_duration_seconds_count'), 100);
  assert.equal(await metric(one, 'outrider_workers_ready'), 2);
  await end(one);
  const { code, said } = await verify(one);
  assert.equal(code, 0, said);
  assert.match(said, /signatures checked: nothing wrong/);
  // The control: what is changed in the audit of one worker is found.
  const path = join(one.state, 'audit', 'proxy-2.jsonl');
  writeFileSync(path, readFileSync(path, 'utf8').replace('"status":429', '"status":200'));
  assert.equal((await verify(one)).code, 1);
});

test('how many run at once holds exactly over two workers, and each that ends makes room', async (t) => {
  const { port, waiting, letGo } = await startOrigin(t, true);
  const one = await startTwo(t, policies(port, { concurrent: 5 }));
  for (const round of [1, 2]) {
    const asked = one.burst(16);
    await until(async () => waiting.length >= 5);
    await until(
      async () => (await metric(one, 'outrider_requests_total{verdict="limit"')) >= 11 * round,
    );
    letGo();
    const statuses = await asked;
    assert.deepEqual([count(statuses, 200), count(statuses, 429)], [5, 11]);
    // A worker says so behind what it has released: an answer may be here before that.
    await until(
      async () => (await metric(one, 'outrider_requests_total{verdict="allow"')) === 5 * round,
    );
  }
});

test('a budget holds over two workers: of requests exactly, of bytes until nothing more is asked', async (t) => {
  const { port } = await startOrigin(t, false, 10_000);
  const requests = [{ id: 'r', per: ['day' as const], requests: 7 }];
  const one = await startTwo(t, policies(port, undefined, { budgets: requests }));
  const statuses = await one.burst(32);
  assert.deepEqual([count(statuses, 200), count(statuses, 429)], [7, 25]);

  const bytes = [{ id: 'b', per: ['day' as const], bytes: 25_000 }];
  const other = await startTwo(t, policies(port, undefined, { budgets: bytes }));
  let through = 0;
  // Bytes are told within 10 ms: some more may go through than one process would let.
  await until(async () => {
    const { status } = await other.ask(PATH, other.good);
    if (status === 200) through += 1;
    return status === 429;
  });
  assert.ok(through >= 2, `${through}`);
  assert.equal(count(await other.burst(16), 429), 16);
});

test('E5: what a runner has ended is refused by both workers', async (t) => {
  const { port } = await startOrigin(t);
  const one = await startTwo(t, policies(port));
  const runner = await startRunner(t, one);
  await until(async () => runner.watchers() === 2);
  assert.equal(count(await one.burst(32), 200), 32);
  runner.tell('exec-sbx-1');
  await until(async () => count(await one.burst(32), 401) === 32);
  const [first = [], second = []] = recordsOf(one).map((records) =>
    records.filter(({ code }) => code === 'TOKEN_REVOKED'),
  );
  assert.ok(first.length > 0 && second.length > 0);
});

test('E5: a worker that is started again lets through nothing that a runner has ended before', async (t) => {
  const { port } = await startOrigin(t);
  const one = await startTwo(t, policies(port));
  const runner = await startRunner(t, one, 300);
  await until(async () => runner.watchers() === 2);
  const [victim = 0] = workersOf(one);
  assert.equal(count(await one.burst(32), 200), 32);
  runner.tell('exec-sbx-1');
  await until(async () => count(await one.burst(32), 401) === 32);
  process.kill(victim, 'SIGKILL');
  await until(async () => (await metric(one, 'outrider_worker_restarts_total')) === 1);
  const statuses: number[] = [];
  const ask = async (): Promise<void> => {
    // Each over a connection of its own, which the worker that is new may get.
    const asked = await Promise.allSettled(
      Array.from({ length: 16 }, () => one.ask(PATH, one.good, { connection: 'close' })),
    );
    for (const got of asked) if (got.status === 'fulfilled') statuses.push(got.value.status);
  };
  await until(async () => {
    await ask();
    return isTwo((await ready(one))['workers']);
  });
  for (let round = 0; round < 5; round++) await ask();
  assert.ok(statuses.length >= 40, `${statuses.length} were answered`);
  assert.equal(count(statuses, 401), statuses.length);
});

/** A gRPC server that stands for a runner and tells which execs are over, who begins to watch after `delayMs`. */
async function startRunner(t: TestContext, { socketPath }: ProxyProcess, delayMs = 0) {
  type Watcher = ServerWritableStream<WatchRevocationsRequest, WatchRevocationsResponse>;
  const watchers = new Set<Watcher>();
  const told: string[] = [];
  const server = new Server();
  const news = (...execs: readonly string[]) =>
    WatchRevocationsResponse.fromPartial({
      synced: true,
      revocations: execs.map((value) => ({
        subject: { $case: 'execId', value },
        expiresAt: new Date(Date.now() + 70_000),
      })),
    });
  server.addService(RevocationServiceService, {
    watchRevocations: (call: Watcher) => {
      watchers.add(call);
      call.once('close', () => watchers.delete(call));
      setTimeout(() => call.write(news(...told)), delayMs);
    },
  });
  const path = join(dirname(socketPath), 'runner.sock');
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    );
  });
  t.after(() => server.forceShutdown());
  return {
    watchers: () => watchers.size,
    tell: (exec: string) => {
      told.push(exec);
      for (const watcher of watchers) watcher.write(news(exec));
    },
  };
}

test('a policy that no longer allows a call is in force in both workers', async (t) => {
  const { port } = await startOrigin(t);
  const one = await startTwo(t, policies(port));
  assert.equal(count(await one.burst(32), 200), 32);
  const path = join(one.directory, 'policies', 'policy.yaml');
  const before = (await ready(one))['policyDigest'];
  writeFileSync(path, policies(port).replaceAll('"id":"api"', '"id":"api","methods":["POST"]'));
  await until(async () => count(await one.burst(32), 200) === 0);
  assert.notEqual((await ready(one))['policyDigest'], before);
});

test('a worker that is killed is missed by nobody for long: the other serves, its places are free, it comes back', async (t) => {
  const { port, waiting, letGo } = await startOrigin(t, true);
  const one = await startTwo(t, policies(port, { concurrent: 16 }));
  const cut = Promise.allSettled(Array.from({ length: 16 }, () => one.ask(PATH, one.good)));
  await until(async () => waiting.length === 16);
  const before = await metric(one, 'outrider_token_verifications_total{result="ok"');
  const [victim = 0] = workersOf(one);
  process.kill(victim, 'SIGKILL');
  // Those of the other go on, and the places of the dead one are free again.
  await until(async () => !isTwo((await ready(one))['workers']));
  letGo();
  const settled = await cut;
  const answered = settled.filter(({ status }) => status === 'fulfilled').length;
  // Who is slow to take a connection gets fewer of them.
  assert.ok(answered > 0 && answered < 16, `${answered} of 16 were answered`);
  const again = Promise.all(Array.from({ length: 16 }, () => admitted(one)));
  await until(async () => waiting.length === 16);
  letGo();
  assert.equal(count(await again, 200), 16);
  await until(async () => isTwo((await ready(one))['workers']));
  assert.equal(await metric(one, 'outrider_worker_restarts_total'), 1);
  assert.ok(
    (await metric(one, 'outrider_token_verifications_total{result="ok"')) >= before,
    'what a counter has said it does not take back',
  );
  assert.ok(!workersOf(one).includes(victim));
  await end(one);
  const { code, said } = await verify(one);
  assert.equal(code, 0, said);
});

/** What is answered once there is a place: a worker says that one is free behind the answer which leaves it. */
async function admitted(one: Started): Promise<number> {
  const { status } = await one.ask(PATH, one.good);
  if (status !== 429) return status;
  await sleep(20);
  return admitted(one);
}

function isTwo(workers: unknown): boolean {
  return isRecord(workers) && workers['ready'] === 2;
}

test('a drain loses nothing of what both workers have begun', async (t) => {
  const { port, waiting, letGo } = await startOrigin(t, true);
  const one = await startTwo(t, policies(port));
  const asked = one.burst(16);
  await until(async () => waiting.length === 16);
  const workers = workersOf(one);
  process.kill(one.pid, 'SIGTERM');
  // Nobody else is let in from now on.
  await until(async () => !(await accepts(parseAddress(`127.0.0.1:${one.port}`))));
  letGo();
  assert.equal(count(await asked, 200), 16);
  await until(async () => [one.pid, ...workers].every((pid) => !isAlive(pid)));
  assert.equal(recordsOf(one).flat().length, 16);
  assert.ok(!existsSync(one.socketPath));
  const { code, said } = await verify(one);
  assert.equal(code, 0, said);
});

test('workers whose primary was killed end, too', async (t) => {
  const { port } = await startOrigin(t);
  const one = await startTwo(t, policies(port));
  const workers = workersOf(one);
  assert.equal(workers.length, 2);
  process.kill(one.pid, 'SIGKILL');
  await until(async () => workers.every((pid) => !isAlive(pid)));
});

test('what a worker cannot do is said, with its code, and nothing stays behind', async (t) => {
  const { port } = await startOrigin(t);
  const taken = await startOrigin(t);
  await assert.rejects(
    startTwo(t, policies(port), { tcp: `127.0.0.1:${taken.port}` }),
    /ADDRESS_IN_USE/,
  );
  for (const workers of [0, 1.5, 65])
    await assert.rejects(startTwo(t, policies(port), { workers }), /proxy\.workers/);
});

test('F4: a token that one worker has exchanged is good at both', async (t) => {
  const one = await startExchanging(t);
  const { token } = await one.exchange();
  const asked = await Promise.all(Array.from({ length: 32 }, () => one.ask(PATH, token)));
  assert.ok(asked.every(({ status }) => status === 200));
  const served = recordsOf(one).map((records) =>
    records.filter(({ verdict, subject }) => verdict === 'allow' && subject === 'alice'),
  );
  assert.ok(served.every((records) => records.length > 0));
});

test('J024: a token for one request is good once, at whichever worker', async (t) => {
  const one = await startExchanging(t);
  for (let round = 0; round < 4; round++) {
    const { token } = await one.exchange({ once: 'true' });
    const asked = await Promise.all(Array.from({ length: 16 }, () => one.ask(PATH, token)));
    const statuses = asked.map(({ status }) => status);
    assert.deepEqual([count(statuses, 200), count(statuses, 401)], [1, 15]);
  }
});

test('J027: a proof of a key is good once, at whichever worker', async (t) => {
  const one = await startExchanging(t);
  const key = createDpopKey();
  const at = `http://127.0.0.1:${one.port}`;
  const made = dpopProof(key, { htm: 'POST', htu: `${at}/.outrider/token` });
  const { token, type } = await one.exchange({}, { dpop: made });
  assert.equal(type, 'DPoP');
  for (let round = 0; round < 4; round++) {
    const dpop = dpopProof(key, { htm: 'GET', htu: `${at}${PATH}`, token });
    const headers = { 'proxy-authorization': `DPoP ${token}`, dpop };
    const asked = await Promise.all(Array.from({ length: 16 }, () => statusOf(one, headers)));
    assert.deepEqual([count(asked, 200), count(asked, 401)], [1, 15]);
  }
});

/** Two workers that exchange tokens of an identity provider. */
async function startExchanging(t: TestContext) {
  const audience = 'https://proxy.example';
  const [{ port }, issuer] = [await startOrigin(t), await startIssuer(t, audience)];
  const members = JSON.stringify([{ issuer: issuer.url, group: 'data' }]);
  const policy = policies(port).replace('[{"issuer":"outrider:local"}]', members);
  const one = await startTwo(t, policy, {
    issuers: [{ issuer: issuer.url, audience, groups: ['data'] }],
  });
  const exchange = async (
    more: Readonly<Record<string, string>> = {},
    headers: Readonly<Record<string, string>> = {},
  ): Promise<{ token: string; type: unknown }> => {
    const answer = await fetch(`http://127.0.0.1:${one.port}/.outrider/token`, {
      method: 'POST',
      headers,
      body: new URLSearchParams({
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
        subject_token: await issuer.token(),
        scope: 'role:analyst',
        ...more,
      }),
    });
    const given: unknown = await answer.json();
    assert.ok(isRecord(given) && typeof given['access_token'] === 'string', JSON.stringify(given));
    return { token: given['access_token'], type: given['token_type'] };
  };
  return { ...one, exchange };
}

/** Over a connection of its own, so that the primary chooses the worker. */
function statusOf({ port }: ProxyProcess, headers: Readonly<Record<string, string>>) {
  return new Promise<number>((resolve, reject) => {
    const asked = request({ port, host: '127.0.0.1', path: PATH, headers, agent: false });
    asked.once('response', (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode ?? 0));
    });
    asked.once('error', reject).end();
  });
}
