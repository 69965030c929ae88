import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { appendFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AuditChain, AuditFile, verifyAudit } from '#core/audit';
import { loadConfig } from '#core/config';
import { fetchIssuerKeys } from '#core/fetch-issuer-keys';
import { createIssuerKeys } from '#core/issuer-keys';
import { silentLogger } from '#core/log';
import { proxySpec } from './config.ts';
import { makeKeyFile, readKeyRing } from './secrets/key-ring.ts';
import { SecretStore, slotPath, slotText } from './secrets/store.ts';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startDns,
  startMesh,
  startOrigin,
} from './testing.ts';

// The rows of docs/faults.md that need no Redis and no process of their own. None of them lets through what a well part would not.

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, 'it did not happen in time');
    await sleep(10);
  }
}

// JWKS: what an issuer of keys can do wrong, over real sockets.

const KEY = {
  kty: 'OKP',
  crv: 'Ed25519',
  x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo',
  kid: 'a',
};
/** What an operator has who says nothing of it. */
const DEFAULT_MAX_AGE_MS =
  loadConfig('proxy', proxySpec({ runtime: '/run', state: '/state' }), {
    argv: ['--issuers', '[{issuer: https://idp.example, audience: proxy}]', '--policies', '/none'],
    env: {},
  }).issuers[0]?.jwksMaxAge ?? 0;
type Behave = (response: ServerResponse) => void;
const WELL: Behave = (response) => void response.end(JSON.stringify({ keys: [KEY] }));

async function issuer(t: TestContext, first: Behave) {
  const state = { behave: first };
  const server: Server = createServer((_request, response) => state.behave(response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  const clock = { nowMs: 0 };
  const source = createIssuerKeys({
    issuer: 'https://idp.example',
    cooldownMs: 5_000,
    maxAgeMs: DEFAULT_MAX_AGE_MS,
    log: silentLogger,
    now: () => clock.nowMs,
    fetch: () =>
      fetchIssuerKeys({ issuer: 'https://idp.example', jwks: `http://127.0.0.1:${port}/keys` }),
  });
  const get = (kid: string) =>
    source.get({ alg: 'EdDSA', kid }, { payload: '', signature: '', protected: '' });
  return { state, server, clock, get, source };
}

const ILL_ISSUERS: Readonly<
  Record<string, (one: { state: { behave: Behave }; server: Server }) => void>
> = {
  slow: ({ state }) => {
    state.behave = (response) => void setTimeout(() => WELL(response), 120_000).unref();
  },
  down: ({ server }) => {
    server.closeAllConnections();
    server.close();
  },
  garbage: ({ state }) => {
    state.behave = (response) => void response.end('{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}');
  },
  'half-open': ({ state }) => {
    state.behave = () => {};
  },
};
for (const [fault, fall] of Object.entries(ILL_ISSUERS))
  test(`fault: JWKS ${fault}: known keys go on for an hour, unknown ones are refused, and then all are`, async (t) => {
    const one = await issuer(t, WELL);
    assert.ok(await one.get('a'));
    fall(one);
    assert.equal(await one.source.problem(), undefined);
    one.clock.nowMs = 11 * 60_000;
    assert.ok(await one.get('a'), 'not even waited for');
    const began = performance.now();
    await assert.rejects(one.get('unknown'));
    assert.ok(performance.now() - began < 60_000, 'within the time-out of a fetch');
    assert.match(String(await one.source.problem()), /those known are good for/, '/readyz says so');
    one.clock.nowMs = 3_599_999;
    assert.ok(await one.get('a'));
    one.clock.nowMs = 3_600_001;
    await assert.rejects(one.get('a'));
    assert.ok(await one.source.problem(), '/readyz says so');
  });

// DNS.

async function dnsMesh(t: TestContext, server: string): Promise<Mesh> {
  const allow = [
    { id: 'web', hosts: ['web.example'], scheme: 'http', methods: ['GET'], paths: 'any' },
  ];
  return startMesh(t, {
    documents: [ROLE, BOUNDARY, egressPolicy(allow)],
    config: { dns: { servers: [server], timeout: '2s' } },
  });
}

/** A DNS server over UDP that does with a question whatever it is told to. */
async function rawDns(t: TestContext, answer: (query: Buffer) => Buffer | undefined) {
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const reply = answer(query);
    if (reply) socket.send(reply, from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => socket.close());
  return `127.0.0.1:${socket.address().port}`;
}

test('fault: DNS slow: 504 after the time-out, and nothing is dialled', async (t) => {
  const { address } = await startDns(t, { 'web.example': [] });
  const mesh = await dnsMesh(t, address);
  const { status, error } = await mesh.ask('http://web.example/x');
  assert.deepEqual([status, error.reason], [504, 'dns_timeout']);
});

test('fault: DNS down: 502, and names are asked for again', async (t) => {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  const mesh = await dnsMesh(t, `127.0.0.1:${port}`);
  const { status, error } = await mesh.ask('http://web.example/x');
  assert.ok(status === 502 || status === 504, String(status));
  assert.match(String(error.reason), /^dns_/);
});

test('fault: DNS garbage: 502 or 504, and no address comes of it', async (t) => {
  for (const garbage of [
    (query: Buffer) => Buffer.concat([query.subarray(0, 2), Buffer.alloc(40, 0xff)]),
    () => Buffer.from('HTTP/1.1 200 OK\r\n\r\n'),
  ]) {
    const mesh = await dnsMesh(t, await rawDns(t, garbage));
    const { status, error } = await mesh.ask('http://web.example/x');
    assert.ok(status === 502 || status === 504, String(status));
    assert.match(String(error.reason), /^dns_/);
  }
});

test('fault: DNS half-open: one family is answered and the other never: the request is not sent to half of the addresses', async (t) => {
  const server = await rawDns(t, (query) => {
    const type = query.readUInt16BE(query.length - 4 - (query.readUInt16BE(10) > 0 ? 11 : 0));
    if (type !== 1) return undefined;
    const reply = Buffer.from(query);
    reply.writeUInt16BE(0x8180, 2);
    return reply;
  });
  const mesh = await dnsMesh(t, server);
  const { status, error } = await mesh.ask('http://web.example/x');
  assert.ok(status === 502 || status === 504, String(status));
  assert.match(String(error.reason), /^dns_/);
});

// The secrets: a file of `secretsDir`, and one of the encrypted store.

const SLOT = { instance: 'main', name: 'KEY' };

async function keyed(t: TestContext, kind: 'file' | 'store') {
  const origin = await startOrigin(t);
  const mesh = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        { id: 'keyed', datasource: 'http/keyed' },
        { id: 'free', datasource: 'http/free' },
      ]),
      datasource('http', 'keyed', `http://127.0.0.1:${origin.port}`, {
        auth: { type: 'bearer' },
        secretRef: kind === 'file' ? 'file:key' : slotText(SLOT),
      }),
      datasource('http', 'free', `http://127.0.0.1:${origin.port}`),
    ],
  });
  const state = join(mesh.directory, 'state');
  const key = `file:${join(state, 'secret-store.key')}`;
  makeKeyFile(key);
  const store = new SecretStore(join(state, 'secret-store'), () => readKeyRing(key, {}));
  const file =
    kind === 'file' ? join(state, 'secrets', 'key') : slotPath(join(state, 'secret-store'), SLOT);
  const set = (value: string): void => {
    if (kind === 'file') writeFileSync(file, value);
    else store.set(SLOT, value);
  };
  set('sesame');
  await until(async () => (await mesh.ask('/http/keyed/x')).status === 200);
  return { origin, mesh, file, set };
}

/** The call is refused, the others are not, and nothing went out without its credential. */
async function assertNoCredential(
  { origin, mesh }: Awaited<ReturnType<typeof keyed>>,
  reason = 'credential_unavailable',
) {
  await until(async () => (await mesh.ask('/http/keyed/x')).status === 503);
  const before = origin.seen.length;
  const { status, error } = await mesh.ask('/http/keyed/x');
  assert.deepEqual([status, error.code, error.reason], [503, 'CREDENTIAL_UNAVAILABLE', reason]);
  assert.equal(origin.seen.length, before);
  assert.equal((await mesh.ask('/http/free/x')).status, 200);
}

for (const kind of ['file', 'store'] as const) {
  test(`fault: secret store slow: what is written slowly is refused until it is whole, and used then: ${kind}`, async (t) => {
    const one = await keyed(t, kind);
    one.set('new-sesame');
    const whole = readFileSync(one.file);
    // The half of a plain value is a value: only its being empty shows.
    const written = kind === 'file' ? 0 : whole.length / 2;
    writeFileSync(one.file, whole.subarray(0, written));
    await assertNoCredential(one);
    appendFileSync(one.file, whole.subarray(written));
    await until(async () => (await one.mesh.ask('/http/keyed/x')).status === 200);
    assert.equal(one.origin.seen.at(-1)?.headers['authorization'], 'Bearer new-sesame');
  });

  test(`fault: secret store down: 503, never the value from before, never a call without it: ${kind}`, async (t) => {
    const one = await keyed(t, kind);
    rmSync(join(one.file, '..'), { recursive: true });
    await assertNoCredential(one);
  });

  test(`fault: secret store garbage: what is no value that a header can hold is refused: ${kind}`, async (t) => {
    const one = await keyed(t, kind);
    writeFileSync(one.file, Buffer.from([0, 1, 2, 0xff, 0x0a, 0x0a]));
    await assertNoCredential(
      one,
      kind === 'file' ? 'secret_control_char' : 'credential_unavailable',
    );
  });

  test(`fault: secret store half-open: what never ends when it is read is not waited for: ${kind}`, async (t) => {
    const one = await keyed(t, kind);
    rmSync(one.file);
    execFileSync('mkfifo', [one.file]);
    await assertNoCredential(one);
  });
}

// The policy files.

async function policied(t: TestContext, config: Readonly<Record<string, unknown>> = {}) {
  const origin = await startOrigin(t);
  const documents = [
    ROLE,
    BOUNDARY,
    egressPolicy([{ id: 'api', datasource: 'http/api' }]),
    datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
  ];
  const mesh = await startMesh(t, { documents, config });
  const directory = join(mesh.directory, 'policies');
  return { mesh, documents, directory, file: join(directory, 'policy.yaml') };
}

const ONLY_ROLE = { apiVersion: 'outrider/v1', ...ROLE };

/** For longer than a change takes to be read, nothing is different: what was allowed is, what was denied is. */
async function assertUnchanged({ ask }: Mesh): Promise<void> {
  for (const end = performance.now() + 1_200; performance.now() < end; await sleep(100)) {
    assert.equal((await ask('/http/api/x')).status, 200);
    assert.equal((await ask('http://evil.example/')).status, 403);
  }
}

test('fault: policy files slow: of a file that is written piece by piece nothing counts before it is whole and sound', async (t) => {
  const { mesh, file } = await policied(t);
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.slice(0, text.length / 2));
  await assertUnchanged(mesh);
  writeFileSync(file, text);
  assert.equal((await mesh.ask('/http/api/x')).status, 200);
});

test('fault: policy files down: the policy from before stays, and denies what it denied', async (t) => {
  const { mesh, directory } = await policied(t);
  renameSync(directory, `${directory}-gone`);
  await assertUnchanged(mesh);
});

test('fault: policy files garbage: the policy from before stays, and the metrics say that reading fails', async (t) => {
  const { mesh, file } = await policied(t);
  writeFileSync(file, 'kind: [nonsense\n\0');
  await assertUnchanged(mesh);
});

test('fault: policy files half-open: what never ends when it is read is not waited for', async (t) => {
  const { mesh, directory } = await policied(t);
  const pipe = join(directory, 'more.yaml');
  execFileSync('mkfifo', [pipe]);
  await assertUnchanged(mesh);
  rmSync(pipe);
  writeFileSync(join(directory, 'policy.yaml'), `---\n${JSON.stringify(ONLY_ROLE)}\n`);
  await until(async () => (await mesh.ask('/http/api/x')).status !== 200);
});

// The disk of the audit. That it fills up: proxy/audit.test.ts; that it hangs: test/parts/faults.test.ts.

test('fault: audit disk garbage: a damaged end is kept as it is, the chain begins behind it, and verify finds it', async (t) => {
  const { mesh } = await policied(t);
  await mesh.ask('/http/api/x');
  await mesh.proxy.stop();
  const file = join(mesh.directory, 'state', 'audit', 'proxy.jsonl');
  appendFileSync(file, Buffer.from([0, 0xff, 0x7b]));
  const chain = new AuditChain('proxy', new AuditFile(file));
  chain.append({ event: 'request', target: 'behind' });
  await chain.close();
  const { findings } = await verifyAudit(readFileSync(file, 'utf8').trimEnd().split('\n'));
  assert.equal(findings.length, 1);
  assert.match(findings[0]?.problem ?? '', /not an audit record/);
});

// The clock. Rates and lives go by a monotonic clock, which these do not move. `ask` shows a token that was taken before.

async function clocked(t: TestContext, config: Readonly<Record<string, unknown>> = {}) {
  const one = await policied(t, config);
  const token = await one.mesh.token();
  const ask = () => one.mesh.ask('/http/api/x', { token });
  assert.equal((await ask()).status, 200);
  const real = Date.now();
  t.mock.timers.enable({ apis: ['Date'], now: real });
  return { ...one, ask, at: (ms: number) => t.mock.timers.setTime(real + ms) };
}

test('fault: clock slow: a little behind the issuer is tolerated, more is refused, also of what was taken before', async (t) => {
  const { mesh, ask, at } = await clocked(t);
  at(-3_000);
  assert.equal((await ask()).status, 200, 'three seconds');
  at(-70_000);
  assert.equal((await ask()).error.reason, 'jwt_iat', 'more than a minute');
  at(60_000);
  const token = await mesh.token();
  at(57_000);
  assert.equal((await mesh.ask('/http/api/x', { token })).status, 200, 'three seconds');
  const later = await (async () => {
    at(120_000);
    return mesh.token({ sandboxId: 'sbx-later' });
  })();
  at(60_000);
  assert.equal((await mesh.ask('/http/api/x', { token: later })).status, 401, 'a minute');
});

test('fault: clock down: while it stands rates go on, and nothing is valid any more once it goes again', async (t) => {
  const { ask, at } = await clocked(t, { limits: { datasource: '60/min burst 1' } });
  at(0);
  await until(async () => (await ask()).status === 429);
  await until(async () => (await ask()).status === 200);
  at(70_000);
  assert.equal((await ask()).status, 401, 'as soon as it goes again');
});

test('fault: clock down: what was taken before is not valid for longer than its life where the clock stands or is set back', async (t) => {
  const { mesh, at } = await clocked(t);
  at(-60_000);
  const token = await mesh.token();
  const ask = () => mesh.ask('/http/api/x', { token });
  at(0);
  assert.equal((await ask()).status, 200, 'the 5 s of tolerance that it has left');
  at(-50_000);
  await until(async () => (await ask()).error.reason === 'jwt_exp');
});

test('fault: clock garbage: a year ahead every token has expired; two hours back none is valid yet', async (t) => {
  const { ask, mesh, at } = await clocked(t);
  at(365 * 86_400_000);
  assert.equal((await ask()).status, 401);
  at(-365 * 86_400_000);
  assert.equal((await ask()).status, 401);
  at(-7_200_000);
  assert.equal((await ask()).status, 401);
  const fresh = await mesh.ask('/http/api/x', {
    token: await mesh.token({ startedAt: Math.floor(Date.now() / 1_000) + 3_600 }),
  });
  assert.equal(fresh.status, 401);
});

test('fault: clock half-open: one that jumps to and fro opens nothing that is shut', async (t) => {
  const { mesh, ask, at } = await clocked(t);
  for (const jump of [70_000, -70_000, 3_600_000, 0]) {
    at(jump);
    const { status } = await ask();
    assert.equal(status, jump === 0 ? 200 : 401, String(jump));
    const denied = await mesh.ask('http://evil.example/');
    assert.ok([401, 403].includes(denied.status), `${denied.status}`);
  }
});
