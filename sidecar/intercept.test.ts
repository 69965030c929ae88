import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import {
  answerLate,
  helloFor,
  policyOf,
  type Rig,
  RULES,
  type Runner,
  reasonOf,
  requestRecords,
  rig,
  standStill,
  statusOf,
  TOKEN,
  until,
  valuesOf,
} from './test-rig.ts';

const SEEN = 'seen.allowed.test';

interface Inside {
  readonly tls: TLSSocket;
  received: string;
  closed: boolean;
}

/** A program's TLS inside a CONNECT, with only the sandbox's CA to trust. */
async function inside(
  runner: Runner,
  ca: string,
  options: ConnectionOptions & { authority?: string } = {},
): Promise<Inside> {
  const { authority = `${SEEN}:443`, ...tlsOptions } = options;
  return secured(await opened(runner, authority), ca, tlsOptions);
}

/** A CONNECT that was accepted. */
async function opened(runner: Runner, authority: string): Promise<Socket> {
  const socket = connect({ path: runner.door });
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  const head = await new Promise<string>((resolve) =>
    socket.once('data', (chunk) => resolve(chunk.toString('latin1'))),
  );
  assert.equal(statusOf(head), 200);
  return socket;
}

async function secured(socket: Duplex, ca: string, tlsOptions: ConnectionOptions): Promise<Inside> {
  const tls = connectTls({ socket, servername: SEEN, ca: [ca], ...tlsOptions });
  const connection: Inside = { tls, received: '', closed: false };
  tls.on('data', (chunk: Buffer) => {
    connection.received += chunk.toString('latin1');
  });
  tls.once('close', () => {
    connection.closed = true;
  });
  await new Promise<void>((resolve, reject) => {
    tls.once('secureConnect', resolve).once('error', reject);
    tls.once('close', () => reject(new Error('closed before it was secure')));
  });
  return connection;
}

async function ask(connection: Inside, text: string): Promise<string> {
  connection.received = '';
  connection.tls.write(text);
  await until(() => connection.closed || /\r\n\r\n.*(?:hello|\}\n)/s.test(connection.received));
  return connection.received;
}

async function bound(built: Rig): Promise<{ runner: Runner; ca: string }> {
  const runner = await built.attach();
  return { runner, ca: await runner.bind() };
}

test('a request inside TLS is decided by its path and forwarded as https, with one record', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  const connection = await inside(runner, ca);
  const answer = await ask(connection, `GET /v1/a?b=c HTTP/1.1\r\nHost: ${SEEN}\r\n\r\n`);
  assert.equal(statusOf(answer), 200);
  const [request] = built.proxy.requests;
  assert.equal(request?.url, `https://${SEEN}/v1/a?b=c`);
  assert.deepEqual(valuesOf(request.headers, 'proxy-authorization'), [`Bearer ${TOKEN}`]);
  assert.deepEqual(valuesOf(request.headers, 'host'), [SEEN]);
  const again = await ask(connection, `GET /v1/b HTTP/1.1\r\nHost: ${SEEN}:443\r\n\r\n`);
  assert.equal(statusOf(again), 200, 'the connection serves more than one');
  await until(() => requestRecords(built.proxy).length === 2);
  const records = requestRecords(built.proxy);
  assert.deepEqual(
    records.map(({ ingress, verdict, rule, target }) => ({ ingress, verdict, rule, target })),
    ['a', 'b'].map((name) => ({
      ingress: 'intercept',
      verdict: 'allow',
      rule: 'seen',
      target: `https://${SEEN}/v1/${name}`,
    })),
  );
  const { allowed, denied } = await runner.unbind();
  assert.deepEqual({ allowed, denied }, { allowed: 2n, denied: 0n });
  await until(() => connection.closed);
});

test('a request line of HTTP/1 that claims HTTP/2 is refused inside TLS, too', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  const line = (version: string) => `GET /v1/ok ${version}\r\nHost: ${SEEN}\r\n\r\n`;
  const refused = await ask(await inside(runner, ca), line('HTTP/2.0'));
  assert.deepEqual([statusOf(refused), reasonOf(refused)], [400, 'version']);
  assert.equal(built.proxy.requests.length, 0);
  assert.equal(statusOf(await ask(await inside(runner, ca), line('HTTP/1.1'))), 200, 'control');
});

test('inside TLS, too, the head of an answer does not wait for its body', async (t) => {
  const built = await rig(t);
  const tell = answerLate(built.proxy);
  const { runner, ca } = await bound(built);
  const connection = await inside(runner, ca);
  connection.tls.write(`GET /v1/a HTTP/1.1\r\nHost: ${SEEN}\r\n\r\n`);
  await until(() => connection.received.endsWith('\r\n\r\n'));
  assert.equal(statusOf(connection.received), 200);
  tell();
  await until(() => connection.received.includes('data: 1'));
});

function absolute(target: string, host = SEEN): string {
  return `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
}

for (const target of [
  `https://${SEEN}/v1/a?b=1`,
  `https://${SEEN}:443/v1/a?b=1`,
  `HTTPS://${SEEN.toUpperCase()}/v1/a?b=1`,
])
  test(`inside TLS ${target} is the path of that host`, async (t) => {
    const built = await rig(t);
    const { runner, ca } = await bound(built);
    const connection = await inside(runner, ca);
    assert.equal(statusOf(await ask(connection, absolute(target))), 200);
    const [request] = built.proxy.requests;
    assert.equal(request?.url, `https://${SEEN}/v1/a?b=1`);
    assert.deepEqual(valuesOf(request?.headers ?? [], 'host'), [SEEN]);
  });

const REFUSED: readonly [name: string, request: string, reason: string][] = [
  ['another path', `GET /v2/a HTTP/1.1\r\nHost: ${SEEN}\r\n\r\n`, 'path_not_allowed'],
  ['another method', `DELETE /v1/a HTTP/1.1\r\nHost: ${SEEN}\r\n\r\n`, 'method_not_allowed'],
  ['another host', 'GET /v1/a HTTP/1.1\r\nHost: evil.test\r\n\r\n', 'host_mismatch'],
  ['another port', `GET /v1/a HTTP/1.1\r\nHost: ${SEEN}:8443\r\n\r\n`, 'host_mismatch'],
  ['no host', 'GET /v1/a HTTP/1.1\r\n\r\n', 'host_missing'],
  ['another host in absolute form', absolute('https://evil.test/v1/a'), 'host_mismatch'],
  ['another port in absolute form', absolute(`https://${SEEN}:8443/v1/a`), 'host_mismatch'],
  ['another scheme', absolute(`http://${SEEN}/v1/a`), 'host_mismatch'],
  ['another scheme at this port', absolute(`http://${SEEN}:443/v1/a`), 'request_target_malformed'],
  ['user information', absolute(`https://me@${SEEN}/v1/a`), 'host_mismatch'],
  ['an absolute form with a fragment', absolute(`https://${SEEN}/v1/a#b`), 'fragment_forbidden'],
  ['another path in absolute form', absolute(`https://${SEEN}/v2/a`), 'path_not_allowed'],
  [
    'an absolute form beside another Host',
    absolute(`https://${SEEN}/v1/a`, 'evil.test'),
    'host_mismatch',
  ],
  [
    'a tunnel inside',
    `CONNECT ${SEEN}:443 HTTP/1.1\r\nHost: ${SEEN}:443\r\n\r\n`,
    'connect_not_allowed',
  ],
  ['an unclean path', `GET /v1/../v2 HTTP/1.1\r\nHost: ${SEEN}\r\n\r\n`, 'path_malformed'],
  [
    'two lengths',
    `GET /v1/a HTTP/1.1\r\nHost: ${SEEN}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`,
    'cl_and_te',
  ],
];

for (const [name, request, reason] of REFUSED)
  test(`inside TLS ${name} is refused with ${reason}, and nothing reaches the proxy`, async (t) => {
    const built = await rig(t);
    const { runner, ca } = await bound(built);
    const connection = await inside(runner, ca);
    const answer = await ask(connection, request);
    assert.equal(reasonOf(answer), reason);
    assert.equal(built.proxy.requests.length, 0);
    await until(() => requestRecords(built.proxy).length === 1);
    assert.equal(requestRecords(built.proxy)[0]?.['reason'], reason);
    const control = await inside(runner, ca);
    const allowed = await ask(control, `GET /v1/a HTTP/1.1\r\nHost: ${SEEN}\r\n\r\n`);
    assert.equal(statusOf(allowed), 200, 'control: the same program gets through otherwise');
  });

test('the CA signs for the host of the CONNECT alone, as no CA itself', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  assert.match(ca, /^-----BEGIN CERTIFICATE-----\n/);
  const connection = await inside(runner, ca);
  const peer = connection.tls.getPeerX509Certificate();
  assert.equal(peer?.subjectAltName, `DNS:${SEEN}`);
  assert.equal(peer.ca, false);
  await assert.rejects(inside(runner, ca, { ca: [] }), /self-signed|unable to (?:get|verify)/);
});

test('a program that offers HTTP/1.0 alone is served in it, and one that offers more gets more', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  const old = await inside(runner, ca, { ALPNProtocols: ['http/1.0'] });
  assert.equal(old.tls.alpnProtocol, 'http/1.0');
  assert.equal(statusOf(await ask(old, `GET /v1/a HTTP/1.0\r\nHost: ${SEEN}\r\n\r\n`)), 200);
  const both = await inside(runner, ca, { ALPNProtocols: ['http/1.0', 'http/1.1'] });
  assert.equal(both.tls.alpnProtocol, 'http/1.1');
});

test('a handshake that fails is recorded', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  await assert.rejects(inside(runner, ca, { ALPNProtocols: ['h3'] }));
  await until(() => requestRecords(built.proxy).length === 1);
  const { ingress, reason } = requestRecords(built.proxy)[0] ?? {};
  assert.deepEqual({ ingress, reason }, { ingress: 'connect', reason: 'tls_error' });
});

test('a program that leaves amid the handshake is not waited for', async (t) => {
  const built = await rig(t, { helloTimeout: 60_000 });
  const { runner } = await bound(built);
  const socket = connect({ path: runner.door });
  socket.write(`CONNECT ${SEEN}:443 HTTP/1.1\r\nHost: ${SEEN}:443\r\n\r\n`);
  socket.write(await helloFor(SEEN));
  let received = '';
  socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
  await until(() => received.includes('\x16\x03\x03'));
  socket.destroy();
  await until(() => requestRecords(built.proxy).length === 1);
  assert.equal(requestRecords(built.proxy)[0]?.['reason'], 'client_gone');
});

test('a handshake whose end came in time is done, also by a sidecar that was held up until after it', async (t) => {
  const built = await rig(t, { helloTimeout: 1_500 });
  const { runner, ca } = await bound(built);
  const socket = await opened(runner, `${SEEN}:443`);
  const { program, held } = afterHello(socket);
  const connecting = secured(program, ca, {});
  await until(() => held.length > 0); // the sidecar has answered the hello
  await standStill(1_800, () => {
    for (const bytes of held.splice(0)) socket.write(bytes);
  });
  const answer = await ask(await connecting, `GET /v1/ok HTTP/1.1\r\nHost: ${SEEN}\r\n\r\n`);
  assert.equal(statusOf(answer), 200);
});

/** The program's side of a connection on which what it says after its TLS hello is held back, until that was let go once. */
function afterHello(socket: Socket): { program: Duplex; held: Buffer[] } {
  const held: Buffer[] = [];
  let flights = 0;
  const program = new Duplex({
    read() {},
    write(bytes: Buffer, _, done) {
      flights += 1;
      if (flights === 2) held.push(bytes);
      else socket.write(bytes);
      done();
    },
  });
  socket.on('data', (bytes: Buffer) => program.push(bytes)).on('close', () => program.destroy());
  return { program, held };
}

test('a hello that names another host, or none, ends the connection before any certificate', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  for (const servername of ['evil.test', ''])
    await assert.rejects(inside(runner, ca, { servername }));
  await until(() => requestRecords(built.proxy).length === 2);
  assert.deepEqual(
    requestRecords(built.proxy).map(({ reason }) => reason),
    ['sni_mismatch', 'sni_missing'],
  );
});

test('without a rule that looks into TLS there is no CA, and a tunnel stays opaque', async (t) => {
  const built = await rig(t);
  const runner = await built.attach();
  const ca = await runner.bind({ policy: policyOf(RULES.filter(({ id }) => id === 'tls')) });
  assert.equal(ca, '');
});

test('what is inside ends with the exec, and what a tighter policy refuses is refused at once', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  const connection = await inside(runner, ca);
  const request = `GET /v1/a HTTP/1.1\r\nHost: ${SEEN}\r\n\r\n`;
  assert.equal(statusOf(await ask(connection, request)), 200);
  await runner.tighten(policyOf(RULES.filter(({ id }) => id !== 'seen')), 'e'.repeat(64));
  const after = await ask(connection, request);
  assert.equal(reasonOf(after), 'host_not_allowed');
  await runner.unbind();
  await until(() => connection.closed);
});

test('what is tightened between a CONNECT and its handshake cuts neither, and holds for what is asked inside', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  const socket = await opened(runner, `${SEEN}:443`);
  const still = await runner.tighten(policyOf(), 'e'.repeat(64));
  assert.equal(still.connectionsClosed, 0);
  const connection = await secured(socket, ca, {});
  const request = `GET /v1/a HTTP/1.1\r\nHost: ${SEEN}\r\n\r\n`;
  assert.equal(statusOf(await ask(connection, request)), 200);

  await opened(runner, `${SEEN}:443`);
  const without = policyOf(RULES.filter(({ id }) => id !== 'seen'));
  assert.equal((await runner.tighten(without, 'f'.repeat(64))).connectionsClosed, 1);
  assert.equal(reasonOf(await ask(connection, request)), 'host_not_allowed');
});

test('a head that does not come is not waited for, inside TLS either', async (t) => {
  const built = await rig(t, { headerTimeout: 300 });
  const { runner, ca } = await bound(built);
  const connection = await inside(runner, ca);
  connection.tls.write('GET /v1/a HTTP/1.1\r\nHost: se');
  await until(() => connection.closed);
  assert.equal(statusOf(connection.received), 408);
});
