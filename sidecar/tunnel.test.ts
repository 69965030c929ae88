import assert from 'node:assert/strict';
import { connect as connectSocket, type Socket } from 'node:net';
import { test } from 'node:test';
import {
  helloFor,
  policyOf,
  type Rig,
  RULES,
  type Runner,
  reasonOf,
  requestRecords,
  rig,
  send,
  standStill,
  statusOf,
  TOKEN,
  until,
  valuesOf,
} from './test-rig.ts';

const HOST = 'tls.allowed.test:443';
const CONNECT = `CONNECT ${HOST} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`;

/** One of application data. */
const RECORD = Buffer.from([23, 3, 3, 0, 5, ...Buffer.from('after')]);

/** Opens a tunnel, waits for its 200, and sends the pieces. */
async function throughTunnel(runner: Runner, ...pieces: Buffer[]): Promise<Tunnel> {
  const socket = connectSocket({ path: runner.door });
  const tunnel: Tunnel = { socket, received: Buffer.alloc(0), closed: false };
  socket
    .on('error', () => {})
    .once('close', () => {
      tunnel.closed = true;
    });
  socket.on('data', (chunk: Buffer) => {
    tunnel.received = Buffer.concat([tunnel.received, chunk]);
  });
  socket.write(CONNECT);
  await until(() => tunnel.received.includes('\r\n\r\n'));
  assert.equal(statusOf(tunnel.received.toString('latin1')), 200);
  tunnel.received = Buffer.alloc(0);
  for (const piece of pieces) {
    socket.write(piece);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return tunnel;
}

interface Tunnel {
  readonly socket: Socket;
  received: Buffer;
  closed: boolean;
}

async function bound(built: Rig): Promise<Runner> {
  const runner = await built.attach();
  await runner.bind();
  return runner;
}

test('a tunnel whose TLS hello names its host is spliced, byte for byte, hello in pieces or not', async (t) => {
  const built = await rig(t);
  const runner = await bound(built);
  const hello = await helloFor('tls.allowed.test');
  for (const pieces of [
    [hello],
    [hello.subarray(0, 3), hello.subarray(3, 90), hello.subarray(90)],
  ]) {
    const tunnel = await throughTunnel(runner, ...pieces, RECORD);
    const sent = Buffer.concat([hello, RECORD]);
    await until(() => tunnel.received.length >= sent.length);
    assert.deepEqual(tunnel.received, sent, 'the echo of what was sent');
    tunnel.socket.destroy();
    await until(() => built.proxy.tunnelSockets.at(-1)?.destroyed === true);
  }
  const { url, headers } = built.proxy.tunnels[0] ?? { url: '', headers: [] };
  assert.equal(url, HOST);
  assert.deepEqual(valuesOf(headers, 'proxy-authorization'), [`Bearer ${TOKEN}`]);
  assert.deepEqual(valuesOf(headers, 'host'), [HOST]);
  const { allowed, bytesOut } = await runner.unbind();
  assert.deepEqual([allowed, bytesOut], [2n, BigInt(2 * (hello.length + RECORD.length))]);
});

test('a hello that came in time is read, also by a sidecar that was held up until after it', async (t) => {
  const built = await rig(t, { helloTimeout: 500 });
  const tunnel = await throughTunnel(await bound(built));
  const hello = await helloFor('tls.allowed.test');
  await standStill(700, () => tunnel.socket.write(hello));
  await until(() => tunnel.received.length >= hello.length || tunnel.closed);
  assert.deepEqual(tunnel.received, hello, 'the echo of what was sent');
});

test('what is no hello for the host of the CONNECT is cut before the proxy hears of it', async (t) => {
  const built = await rig(t, { helloTimeout: 1_000 });
  const runner = await bound(built);
  const cases = [
    [await helloFor('evil.test'), 'sni_mismatch'],
    [await helloFor('api.allowed.test'), 'sni_mismatch'],
    [await helloFor(undefined), 'sni_missing'],
    [Buffer.from('SSH-2.0-x\r\n'), 'protocol_mismatch'],
    [Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'protocol_mismatch'],
    [Buffer.from(CONNECT), 'protocol_mismatch'],
    [
      Buffer.concat([Buffer.from([22, 3, 1, 0x40, 0, 1, 0, 0x9c, 0x40]), Buffer.alloc(40_000)]),
      'protocol_mismatch',
    ],
    [Buffer.alloc(0), 'tls_peek_timeout'],
  ] as const;
  for (const [bytes, reason] of cases) {
    const tunnel = await throughTunnel(runner, bytes);
    await until(() => tunnel.closed);
    assert.equal(tunnel.received.length, 0, reason);
  }
  assert.equal(built.proxy.tunnels.length, 0);
  const { denied } = await runner.unbind();
  assert.equal(denied, BigInt(cases.length));
  const reasons = built.proxy.auditLines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ event }) => event === 'request')
    .map(({ reason }) => reason);
  assert.deepEqual(
    reasons,
    cases.map(([, reason]) => reason),
  );
});

const REFUSED = [
  ['evil.test:443', 403, 'host_denied'],
  ['other.test:443', 403, 'host_not_allowed'],
  ['tls.allowed.test:22', 403, 'port_not_allowed'],
  ['prometheus-main.outrider.internal:80', 405, 'connect_not_allowed'],
  ['169.254.169.254:443', 403, 'ip_forbidden_class'],
] as const;

test('CONNECT to what may not be tunnelled is refused with its reason', async (t) => {
  const built = await rig(t);
  const runner = await bound(built);
  for (const [authority, status, reason] of REFUSED) {
    const answer = await send(
      runner.door,
      `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`,
    );
    assert.deepEqual([statusOf(answer), reasonOf(answer)], [status, reason], authority);
  }
  assert.deepEqual([built.proxy.tunnels.length, built.proxy.requests.length], [0, 0]);
});

test('CONNECT as HTTP/1.0 without a Host, and with the host alone, is taken; another host is not', async (t) => {
  const built = await rig(t);
  const runner = await bound(built);
  const cases = [
    [`CONNECT ${HOST} HTTP/1.0\r\n\r\n`, 200],
    [`CONNECT ${HOST} HTTP/1.1\r\nHost: tls.allowed.test\r\n\r\n`, 200],
    [`CONNECT ${HOST} HTTP/1.1\r\nHost: evil.test:443\r\n\r\n`, 421],
  ] as const;
  for (const [bytes, status] of cases)
    assert.equal(statusOf(await send(runner.door, bytes, 40)), status, bytes);
});

test('a CONNECT behind a request that is still being answered is cut', async (t) => {
  const built = await rig(t);
  built.proxy.answer = () => {};
  const runner = await bound(built);
  const first = 'GET http://api.allowed.test/v1/ok HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n';
  assert.equal(await send(runner.door, first + CONNECT), '');
  assert.equal(built.proxy.tunnels.length, 0);
});

const NO_TLS = ['CONNECT evil.test:443 HTTP/1.1\r\n\r\n', 'GET /secret HTTP/1.1\r\n\r\n'];
for (const text of NO_TLS)
  for (const where of ['with the hello', 'behind the hello', 'behind a record'])
    test(`a tunnel carries nothing but TLS: ${text.trim()} ${where} ends it, and goes nowhere`, async (t) => {
      const built = await rig(t);
      const runner = await bound(built);
      const hello = await helloFor('tls.allowed.test');
      let reached = '';
      const tunnel = await throughTunnel(
        runner,
        ...(where === 'with the hello' ? [Buffer.concat([hello, Buffer.from(text)])] : [hello]),
      );
      if (where !== 'with the hello') {
        await until(() => tunnel.received.length === hello.length);
        built.proxy.tunnelSockets[0]?.on('data', (chunk) => (reached += chunk.toString('latin1')));
        if (where === 'behind a record') {
          tunnel.socket.write(RECORD);
          await until(() => tunnel.received.length === hello.length + RECORD.length);
          reached = '';
        }
        tunnel.socket.write(text);
      }
      await until(() => tunnel.closed);
      await runner.unbind();
      assert.equal(reached, '');
      const [record] = requestRecords(built.proxy);
      assert.deepEqual([record?.['verdict'], record?.['reason']], ['deny', 'protocol_mismatch']);
    });

for (const [where, before] of [
  ['at once', []],
  ['behind a record', [RECORD]],
] as const)
  test(`a tunnel carries nothing but TLS: a server that says something else ${where} ends it, and is not heard`, async (t) => {
    const built = await rig(t);
    const runner = await bound(built);
    const hello = await helloFor('tls.allowed.test');
    const tunnel = await throughTunnel(runner, hello);
    await until(() => tunnel.received.length === hello.length);
    const [server] = built.proxy.tunnelSockets;
    const heard = Buffer.concat([hello, ...before]);
    for (const record of before) server?.write(record);
    await until(() => tunnel.received.length === heard.length);
    server?.write('HTTP/1.1 200 OK\r\n\r\n');
    await until(() => tunnel.closed);
    assert.deepEqual(tunnel.received, heard);
    await runner.unbind();
    const [record] = requestRecords(built.proxy);
    assert.deepEqual([record?.['verdict'], record?.['reason']], ['deny', 'protocol_mismatch']);
  });

test('a tunnel that the proxy refuses is closed, and recorded with the reason of the proxy', async (t) => {
  const built = await rig(t);
  built.proxy.tunnelAnswer =
    'HTTP/1.1 403 Forbidden\r\nx-outrider-error: EGRESS_DENIED\r\nx-outrider-reason: resolved_ip_forbidden\r\n\r\n';
  const runner = await bound(built);
  const tunnel = await throughTunnel(runner, await helloFor('tls.allowed.test'));
  await until(() => tunnel.closed);
  assert.equal(tunnel.received.length, 0);
  assert.equal((await runner.unbind()).denied, 1n);
  assert.match(
    built.proxy.auditLines.at(-1) ?? '',
    /"verdict":"deny".*"reason":"resolved_ip_forbidden"/,
  );
});

test('a tunnel while the proxy is away is closed, and recorded as failed', async (t) => {
  const built = await rig(t);
  const runner = await bound(built);
  await built.proxy.close();
  const tunnel = await throughTunnel(runner, await helloFor('tls.allowed.test'));
  await until(() => tunnel.closed);
  assert.equal((await runner.unbind()).failed, 1n);
  await built.proxy.listen();
});

test('tightening closes the tunnels that it no longer allows, and no others', async (t) => {
  const built = await rig(t);
  const runner = await bound(built);
  const hello = await helloFor('tls.allowed.test');
  const tunnel = await throughTunnel(runner, hello);
  await until(() => tunnel.received.length === hello.length);

  const wider = policyOf([...RULES, { id: 'more', hosts: ['other.test'], protocols: ['tunnel'] }]);
  assert.equal((await runner.tighten(wider, 'e'.repeat(64))).connectionsClosed, 0);
  assert.equal(tunnel.closed, false);
  const other = await send(
    runner.door,
    'CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n',
  );
  assert.equal(reasonOf(other), 'host_not_allowed', 'what a later policy adds is ignored');

  const narrower = policyOf(RULES.filter(({ id }) => id !== 'tls'));
  assert.equal((await runner.tighten(narrower, 'f'.repeat(64))).connectionsClosed, 1);
  await until(() => tunnel.closed && built.proxy.tunnelSockets[0]?.destroyed === true);
  assert.equal(reasonOf(await send(runner.door, CONNECT)), 'host_not_allowed');
});

test('tightening cuts the requests under way that it no longer allows, and no others', async (t) => {
  const built = await rig(t);
  const sockets: (() => void)[] = [];
  built.proxy.answer = (_, response) => {
    response.writeHead(200).write('begun ');
    sockets.push(() => response.end('and ended'));
  };
  const runner = await bound(built);
  const ask = (path: string) =>
    send(
      runner.door,
      `GET http://api.allowed.test${path} HTTP/1.1\r\nHost: api.allowed.test\r\nConnection: close\r\n\r\n`,
      1_000,
    );
  const [kept, cut] = [ask('/v1/kept'), ask('/v1/cut')];
  await until(() => built.proxy.requests.length === 2);
  const narrower = policyOf(
    RULES.map((rule) => (rule.id === 'api' ? { ...rule, paths: ['/v1/kept'] } : rule)),
  );
  assert.equal((await runner.tighten(narrower, 'e'.repeat(64))).connectionsClosed, 1);
  assert.doesNotMatch(await cut, /ended/);
  await until(() => built.proxy.requests.length === 2);
  for (const end of sockets) end();
  assert.match(await kept, /begun[\s\S]*and ended/);
  await runner.unbind();
  const records = requestRecords(built.proxy).map(({ target, verdict, reason }) => [
    String(target).split('/').at(-1),
    verdict,
    reason,
  ]);
  assert.deepEqual(records, [
    ['cut', 'deny', 'path_not_allowed'],
    ['kept', 'allow', undefined],
  ]);
});

test('an opaque tunnel is closed when its rule wants to look at requests from now on', async (t) => {
  const built = await rig(t);
  const runner = await bound(built);
  const hello = await helloFor('tls.allowed.test');
  const tunnel = await throughTunnel(runner, hello);
  await until(() => tunnel.received.length === hello.length);
  const looking = policyOf([
    { id: 'tls', hosts: ['tls.allowed.test'], methods: ['GET'], paths: 'any' },
  ]);
  assert.equal((await runner.tighten(looking, 'e'.repeat(64))).connectionsClosed, 1);
  await until(() => tunnel.closed);
});

test('hellos that are none, behind an allowed CONNECT, are recorded each', async (t) => {
  const built = await rig(t);
  const runner = await bound(built);
  const bad = async () => {
    const tunnel = await throughTunnel(runner, Buffer.from('GET / HTTP/1.1\r\n\r\n'));
    await until(() => tunnel.closed);
  };
  for (let round = 0; round < 26; round++) await Promise.all(Array.from({ length: 10 }, bad));
  const { denied } = await runner.unbind();
  assert.equal(denied, 260n);
  assert.deepEqual(
    requestRecords(built.proxy).map(({ reason }) => reason),
    Array.from({ length: 260 }, () => 'protocol_mismatch'),
  );
});

test('unbind cuts tunnels and requests under way, on both sides', async (t) => {
  const built = await rig(t);
  built.proxy.answer = () => {};
  const runner = await bound(built);
  const hello = await helloFor('tls.allowed.test');
  const tunnel = await throughTunnel(runner, hello);
  await until(() => tunnel.received.length === hello.length);
  const waiting = send(
    runner.door,
    'GET http://api.allowed.test/v1/ok HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n',
    1_000,
  );
  await until(() => built.proxy.requests.length === 1);
  const { undeliveredRecords } = await runner.unbind();
  await until(() => tunnel.closed && built.proxy.tunnelSockets[0]?.destroyed === true);
  await waiting;
  assert.equal(undeliveredRecords, 0n);
  assert.equal(built.proxy.auditLines.length, 3, 'start and one record for each of the two');
});
