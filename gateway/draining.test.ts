import assert from 'node:assert/strict';
import {
  Agent,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startGateway, startHttp } from './testing.ts';

const READY = ['/readyz', '/health'];

/** A server of ours that may be about to stop: it then says so as ours do, and goes on answering. */
async function startServer(t: TestContext, name: string) {
  const state = { stopping: false, calls: 0 };
  const url = await startHttp(t, (request: IncomingMessage, response: ServerResponse) => {
    request.resume();
    if (state.stopping && request.url === '/mcp') response.setHeader('connection', 'close');
    if (request.url === '/mcp' && request.method === 'POST') state.calls += 1;
    const ready = !READY.includes(request.url ?? '') || !state.stopping;
    response.writeHead(ready ? 200 : 503).end(name);
  });
  return { url, state };
}

interface Running {
  readonly origin: string;
  readonly authorization: string;
}

const call = ({ origin, authorization }: Running) =>
  fetch(`${origin}/mcp`, { method: 'POST', headers: { authorization }, body: '{}' });

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20);
}

test('a server of ours that says that it will stop gets nothing new, until it is ready again', {
  timeout: 120_000,
}, async (t) => {
  const [first, second] = await Promise.all([startServer(t, 'first'), startServer(t, 'second')]);
  const gateway = await startGateway(t, [first.url, second.url]);
  first.state.stopping = true;
  await until(async () => (await (await call(gateway)).text()) === 'first'); // and so it is known
  const before = first.state.calls;
  for (let n = 0; n < 50; n++) assert.equal((await call(gateway)).status, 200);
  assert.equal(first.state.calls, before, 'nothing new went there');
  first.state.stopping = false;
  await until(async () => (await (await call(gateway)).text()) === 'first');
});

test('control: with servers of others a closed connection is a habit, and says nothing', async (t) => {
  const [first, second] = await Promise.all([startServer(t, 'first'), startServer(t, 'second')]);
  const gateway = await startGateway(t, [first.url, second.url], { serversAre: 'foreign' });
  first.state.stopping = true;
  await until(async () => (await (await call(gateway)).text()) === 'first');
  const before = first.state.calls;
  for (let n = 0; n < 50; n++) assert.equal((await call(gateway)).status, 200);
  assert.ok(first.state.calls > before);
});

test('the last server there is gets requests although it will stop', async (t) => {
  const only = await startServer(t, 'only');
  const gateway = await startGateway(t, [only.url]);
  only.state.stopping = true;
  for (let n = 0; n < 5; n++) assert.equal((await call(gateway)).status, 200);
});

test('A12: told to stop, a gateway says 503 at /readyz at once and still serves what comes, each answer the last on its connection', async (t) => {
  const { url } = await startServer(t, 'server');
  const gateway = await startGateway(t, [url], { drainNotice: 5_000 });
  const readyz = async () => (await fetch(`${gateway.origin}/readyz`)).status;
  assert.equal(await readyz(), 200, 'control');
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const connectionOf = async () => {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { authorization: gateway.authorization };
      const sent = httpRequest(
        `${gateway.origin}/mcp`,
        { method: 'POST', agent, headers },
        resolve,
      );
      sent.on('error', reject).end('{}');
    });
    assert.equal(answer.statusCode, 200);
    await text(answer);
    return answer.headers.connection;
  };
  assert.equal(await connectionOf(), 'keep-alive', 'control');
  const stopped = gateway.stop();
  assert.equal(await readyz(), 503);
  assert.equal(await connectionOf(), 'close', 'also on the connection that was kept');
  assert.equal(await connectionOf(), 'close', 'new connections are taken');
  await stopped;
});

test('A12: calls under way end in their own time, event streams are cut at once', async (t) => {
  let release = () => {};
  let begun = () => {};
  const running = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const url = await startHttp(t, (request, response) => {
    request.resume();
    if (request.method === 'GET') {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write('id: 1\n\n');
      return;
    }
    release = () => response.end('the end');
    begun();
  });
  const gateway = await startGateway(t, [url], { drainTimeout: 60_000, serversAre: 'foreign' });
  const { authorization } = gateway;
  const stream = await fetch(`${gateway.origin}/mcp`, { headers: { authorization } });
  const answer = call(gateway);
  await running;
  const stopped = gateway.stop();
  await assert.rejects(stream.text(), 'its client goes on at another gateway');
  await assert.rejects(fetch(`${gateway.origin}/livez`), 'it listens no more');
  release();
  assert.equal(await (await answer).text(), 'the end');
  await stopped;
});
