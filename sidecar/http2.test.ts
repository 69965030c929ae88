import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { connect } from 'node:net';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import {
  answerLate,
  type Rig,
  type Runner,
  requestRecords,
  rig,
  TOKEN,
  until,
  valuesOf,
} from './test-rig.ts';

const SEEN = 'seen.allowed.test';

/** An HTTP/2 client inside a CONNECT, with only the sandbox's CA to trust. */
async function inside(runner: Runner, ca: string): Promise<ClientHttp2Session> {
  const socket = connect({ path: runner.door });
  socket.write(`CONNECT ${SEEN}:443 HTTP/1.1\r\nHost: ${SEEN}:443\r\n\r\n`);
  await new Promise((resolve) => socket.once('data', resolve));
  const tls = connectTls({ socket, servername: SEEN, ca: [ca], ALPNProtocols: ['h2'] });
  await new Promise((resolve, reject) => tls.once('secureConnect', resolve).once('error', reject));
  assert.equal(tls.alpnProtocol, 'h2');
  const session = connectHttp2(`https://${SEEN}`, { createConnection: () => tls });
  session.on('error', () => {});
  return session;
}

interface Answer {
  readonly status: number;
  readonly reason: string | undefined;
  readonly body: string;
  readonly trailers: Record<string, unknown>;
}

function ask(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body?: string,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':authority': SEEN, ':path': '/v1/a', ...headers });
    let status = 0;
    let reason: string | undefined;
    let text = '';
    let trailers = {};
    stream.on('response', (head) => {
      status = Number(head[':status']);
      reason = head['x-outrider-reason']?.toString();
    });
    stream.on('trailers', (fields) => {
      trailers = { ...fields };
    });
    stream.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
    stream
      .once('error', reject)
      .once('end', () => resolve({ status, reason, body: text, trailers }));
    stream.end(body);
  });
}

async function bound(built: Rig): Promise<{ runner: Runner; ca: string }> {
  const runner = await built.attach();
  return { runner, ca: await runner.bind() };
}

test('streams of HTTP/2 are requests like any other, many at once over one connection', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  const session = await inside(runner, ca);
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, at) => ask(session, { ':path': `/v1/${at}?x=${at}` })),
  );
  for (const { status, body } of answers) assert.deepEqual([status, body], [200, 'hello']);
  assert.deepEqual(
    built.proxy.requests.map(({ url }) => url).toSorted(),
    Array.from({ length: 20 }, (_, at) => `https://${SEEN}/v1/${at}?x=${at}`).toSorted(),
  );
  const [request] = built.proxy.requests;
  assert.deepEqual(valuesOf(request?.headers ?? [], 'proxy-authorization'), [`Bearer ${TOKEN}`]);
  assert.deepEqual(valuesOf(request?.headers ?? [], 'host'), [SEEN]);
  assert.ok(!request?.headers.some((name) => name.startsWith(':')));
  session.close();
  await until(() => requestRecords(built.proxy).length === 20);
});

test('every byte of a body comes through as it is, whether or not its length was told', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  const session = await inside(runner, ca);
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
  for (const headers of [{ 'content-length': '256' }, {}]) {
    built.proxy.answer = (_, response) => void response.writeHead(200, headers).end(bytes);
    const { status, body } = await ask(session, {});
    assert.deepEqual([status, body], [200, bytes.toString('latin1')]);
  }
  session.destroy();
});

test('the head of an answer does not wait for its body', async (t) => {
  const built = await rig(t);
  const tell = answerLate(built.proxy);
  const { runner, ca } = await bound(built);
  const session = await inside(runner, ca);
  const stream = session.request({ ':authority': SEEN, ':path': '/v1/a' });
  const [head] = await once(stream, 'response');
  assert.equal(head[':status'], 200);
  tell();
  const pieces: Buffer[] = await stream.toArray();
  assert.equal(Buffer.concat(pieces).toString(), 'data: 1\n\n');
  session.close();
});

test('trailers of the answer come through', async (t) => {
  const built = await rig(t);
  built.proxy.answer = (_, response) => {
    response.writeHead(200, { 'content-type': 'text/plain', trailer: 'x-sum' });
    response.write('hello');
    response.addTrailers({ 'x-sum': '42' });
    response.end();
  };
  const { runner, ca } = await bound(built);
  const session = await inside(runner, ca);
  const { body, trailers } = await ask(session, {});
  assert.equal(body, 'hello');
  assert.equal(trailers['x-sum'], '42');
  session.close();
});

const REFUSED: readonly [
  what: string,
  headers: OutgoingHttpHeaders,
  status: number,
  reason: string,
][] = [
  ['another path', { ':path': '/v2/a' }, 403, 'path_not_allowed'],
  ['another method', { ':method': 'DELETE' }, 405, 'method_not_allowed'],
  ['another authority', { ':authority': 'evil.test' }, 421, 'host_mismatch'],
  ['a Host beside another authority', { host: 'evil.test' }, 400, 'host_mismatch'],
  ['an unclean path', { ':path': '/v1/%2e%2e/v2' }, 400, 'path_malformed'],
  ['a loop', { via: '1.1 outrider' }, 508, 'loop_detected'],
];

for (const [what, headers, status, reason] of REFUSED)
  test(`by HTTP/2 ${what} is refused with ${reason}, and the connection goes on`, async (t) => {
    const built = await rig(t);
    const { runner, ca } = await bound(built);
    const session = await inside(runner, ca);
    const answer = await ask(session, headers);
    assert.deepEqual([answer.status, answer.reason], [status, reason]);
    assert.equal(built.proxy.requests.length, 0);
    assert.equal((await ask(session, {})).status, 200, 'control: the next one is allowed');
    session.close();
    await until(() => requestRecords(built.proxy).length === 2);
    assert.equal(requestRecords(built.proxy)[0]?.['reason'], reason);
  });

test('streams that are reset faster than a client has reason to end the connection', async (t) => {
  const built = await rig(t);
  built.proxy.answer = () => {}; // answers never
  const { runner, ca } = await bound(built);
  const session = await inside(runner, ca);
  const closed = new Promise((resolve) => session.once('close', resolve));
  for (let at = 0; at < 2_000 && !session.destroyed; at += 1) {
    const stream = session.request({ ':authority': SEEN, ':path': '/v1/a' });
    stream.on('error', () => {});
    stream.close(8);
    if (at % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await closed;
  assert.ok(built.proxy.requests.length <= 400, `${built.proxy.requests.length} reached the proxy`);
  const other = await inside(runner, ca);
  assert.equal((await ask(other, { ':path': '/v2/a' })).status, 403, 'the door is well');
  other.close();
});

test('a stream that the library resets reaches nobody and has no record, and the connection goes on', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  const session = await inside(runner, ca);
  for (const headers of [{ ':path': `https://${SEEN}/v1/a` }, { ':authority': `me@${SEEN}` }])
    await assert.rejects(ask(session, headers), { code: 'ERR_HTTP2_STREAM_ERROR' });
  assert.equal((await ask(session, {})).status, 200, 'control');
  assert.equal(built.proxy.requests.length, 1);
  session.close();
  await runner.unbind();
  assert.equal(requestRecords(built.proxy).length, 1);
});
