import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { policyOf, type Recorded, RULES, requestRecords, rig, send, until } from './test-rig.ts';

const HOST = 'api.allowed.test';
const numbered = (at: number, extra = '') =>
  `GET http://${HOST}/v1/${at} HTTP/1.1\r\nHost: ${HOST}\r\n${extra}\r\n`;
const many = (count: number) => Array.from({ length: count }, (_, at) => numbered(at)).join('');
/** All that comes until the door closes the connection. */
const sendAll = (door: string, bytes: string) => send(door, bytes, 3_000);

function statusesOf(answers: string): number[] {
  return [...answers.matchAll(/^HTTP\/1\.1 (\d{3})/gm)].map(([, status]) => Number(status));
}

function pathsOf(requests: readonly Recorded[]): string[] {
  return requests.map(({ url }) => new URL(url).pathname);
}

test('requests that come together are forwarded one after the other, and answered in their order', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  let [now, most] = [0, 0];
  proxy.answer = (_, response) => {
    now += 1;
    most = Math.max(most, now);
    setTimeout(() => {
      now -= 1;
      response.end('x\n');
    }, 20);
  };
  const separate = Array.from({ length: 4 }, (_, at) => send(runner.door, numbered(at)));
  await Promise.all(separate);
  assert.ok(most > 1, 'control: of several connections several are under way at once');
  most = 0;
  const sixteen = `${many(15)}${numbered(15, 'Connection: close\r\n')}`;
  assert.deepEqual(statusesOf(await sendAll(runner.door, sixteen)), Array(16).fill(200));
  assert.equal(most, 1);
  const wanted = Array.from({ length: 16 }, (_, at) => `/v1/${at}`);
  assert.deepEqual(pathsOf(proxy.requests.slice(-16)), wanted);
});

test('the seventeenth is refused behind the answers to the others, and of ten thousand behind it nothing is made', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const answers = await sendAll(runner.door, many(10_000));
  assert.deepEqual(statusesOf(answers), [...Array<number>(16).fill(200), 429]);
  assert.match(answers, /x-outrider-reason: pipeline_limit/i);
  assert.equal(proxy.requests.length, 16);
  await until(() => requestRecords(proxy).length === 17);
  const reasons = requestRecords(proxy).map(({ reason }) => reason);
  assert.deepEqual(
    reasons.filter((reason) => reason),
    ['pipeline_limit'],
  );
});

test('what stands behind a request in doubt is never served, and what stands before it is', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const doubtful = numbered(1, 'Content-Length: 0\r\nTransfer-Encoding: chunked\r\n');
  for (const second of [doubtful, numbered(1).replace('GET', 'G(T')]) {
    proxy.requests.length = 0;
    const answers = await sendAll(runner.door, `${numbered(0)}${second}${numbered(2)}`);
    assert.deepEqual(statusesOf(answers), [200, 400]);
    assert.deepEqual(pathsOf(proxy.requests), ['/v1/0']);
  }
});

test('a body that breaks off behind a request that is not answered yet is refused in its turn', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const broken = `POST http://${HOST}/v1/1 HTTP/1.1\r\nHost: ${HOST}\r\nTransfer-Encoding: chunked\r\n\r\nnot a size`;
  const answers = await sendAll(runner.door, `${numbered(0)}${broken}`);
  assert.deepEqual(statusesOf(answers), [200, 400]);
  assert.deepEqual(pathsOf(proxy.requests), ['/v1/0']);
});

test('a program that leaves takes with it what was still to come', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  proxy.answer = () => {};
  const [left] = await Promise.all([
    send(runner.door, many(8), 100),
    until(() => proxy.requests.length === 1),
  ]);
  assert.equal(left, '');
  await runner.unbind();
  assert.deepEqual(
    requestRecords(proxy).map(({ reason }) => reason),
    ['client_gone'],
  );
  assert.equal(proxy.requests.length, 1);
});

test('a program that leaves within the body of a request that waits is recorded as one that left', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  let answer = (): void => {};
  proxy.answer = (_, response) => void (answer = () => void response.end('x\n'));
  const begun = `POST http://${HOST}/v1/1 HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 10\r\n\r\nabc`;
  const program = connect(runner.door).on('error', () => {});
  program.end(`${numbered(0)}${begun}`);
  await until(() => proxy.requests.length === 1 && requestRecords(proxy).length === 1);
  answer();
  await until(() => requestRecords(proxy).length === 2);
  program.destroy();
  assert.deepEqual(
    requestRecords(proxy).map(({ reason }) => reason),
    ['client_gone', undefined],
  );
  assert.deepEqual(pathsOf(proxy.requests), ['/v1/0']);
});

test('behind an answer that ends the connection nothing is forwarded: a program that asks again would ask twice', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  const [api] = RULES;
  assert.ok(api);
  await runner.bind({ policy: policyOf([{ ...api, limits: { responseBytes: 4 } }]) });
  proxy.answer = (_, response) => setTimeout(() => response.end('x'), 20);
  // Connections to the proxy that are open already, so that nothing has to be waited for.
  await Promise.all(Array.from({ length: 4 }, (_, at) => send(runner.door, numbered(at))));
  proxy.requests.length = 0;
  proxy.answer = ({ url }, response) => response.end(url?.endsWith('/0') ? 'too long' : 'x\n');
  const order = numbered(1).replace('GET', 'POST');
  assert.deepEqual(statusesOf(await send(runner.door, `${numbered(9)}${order}`)), [200, 200]);
  assert.deepEqual(pathsOf(proxy.requests), ['/v1/9', '/v1/1'], 'control');
  const answers = await sendAll(runner.door, `${numbered(0)}${order}`);
  assert.deepEqual(statusesOf(answers), [502]);
  assert.match(answers, /^connection: close/im);
  await runner.unbind();
  assert.deepEqual(pathsOf(proxy.requests.slice(2)), ['/v1/0']);
});

const refusedPost = (framing: string, body: string) =>
  `POST http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n${framing}\r\n\r\n${body}`;
const lengthy = refusedPost('Content-Length: 100', 'abc');

const chunky = (body: string) => refusedPost('Transfer-Encoding: chunked', body);
const [DENIED, UNREADABLE] = [
  [403, 'host_denied'],
  [400, 'chunk_size'],
] as const;
for (const [what, pieces, [status, reason]] of [
  ['ends with the connection', [lengthy], DENIED],
  ['ends with the connection, later', [lengthy, '', 'answered'], DENIED],
  ['is no chunk', [chunky('no chunk\r\n')], UNREADABLE],
  ['is no chunk, soon', [chunky(''), 'no chunk\r\n'], UNREADABLE],
  ['is no chunk, later', [chunky(''), 'no chunk\r\n', 'answered'], DENIED],
] as const)
  test(`a refused request whose body ${what} has its answer and one record`, async (t) => {
    const { attach, proxy } = await rig(t);
    const runner = await attach();
    await runner.bind();
    const program = connect({ path: runner.door, allowHalfOpen: true });
    let answers = '';
    program.on('data', (bytes: Buffer) => (answers += bytes.toString())).on('error', () => {});
    const [first, then, after] = pieces;
    if (then === undefined) program.end(first);
    else {
      program.write(first);
      await (after ? until(() => answers !== '') : sleep(20));
      program.end(then);
    }
    await until(() => program.destroyed || program.readableEnded);
    assert.deepEqual(statusesOf(answers), [status], answers);
    await runner.unbind();
    const reasons = requestRecords(proxy).map((record) => record['reason']);
    assert.deepEqual(reasons, [reason]);
  });

test('control: what stands behind a refused request that came whole is refused for itself', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  for (const whole of [
    refusedPost('Content-Length: 3', 'abc'),
    refusedPost('Transfer-Encoding: chunked', '3\r\nabc\r\n0\r\n\r\n'),
  ])
    assert.deepEqual(statusesOf(await sendAll(runner.door, `${whole}G(T`)), [403, 400]);
  await runner.unbind();
  const reasons = requestRecords(proxy).map((record) => String(record['reason']));
  const both = ['host_denied', 'request_line_malformed'];
  assert.deepEqual(reasons.toSorted(), [...both, ...both].toSorted());
});
