import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen } from '#core/http';
import { debuggersIn, evaluateIn } from '../support/debugger.ts';
import { command, startFleet } from '../support/fleet.ts';
import { descendantsOf } from '../support/processes.ts';
import { Replica } from '../support/replica.ts';

const SESSIONS = 10_000;
const WITH_STREAM = 1_000;
const AT_ONCE = 50;
/** Two hundred bytes a session: anything that is kept for each of them is more. */
const GROWTH_MAX_BYTES = 2_000_000;
const WITHIN_MS = 60_000;
const HEAP = `(() => {
  process.getBuiltinModule('node:v8').setFlagsFromString('--expose-gc');
  const gc = process.getBuiltinModule('node:vm').runInNewContext('gc');
  gc();
  gc();
  return process.memoryUsage().heapUsed;
})()`;

const INITIALIZE = JSON.stringify({
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'x', version: '1' },
  },
});

/** A server whose sessions are ids and nothing else, so that what is before it is measured. */
async function startServer() {
  let sessions = 0;
  const server = createServer((request, response) => {
    request.resume();
    if (request.method === 'GET')
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    else
      response.writeHead(200, { 'mcp-session-id': `session-${sessions++}` }).end('{"result":{}}');
  });
  const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  assert.ok(address.kind === 'tcp');
  const connections = () =>
    new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));
  return { server, port: address.port, connections };
}

/** A client that begins a session, with an event stream where told, and is cut off as one that is killed. */
function dieIn(port: number, token: string, withStream: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    const ask = (method: string, more: string, body = '') =>
      socket.write(
        `${method} /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${token}\r\n${more}content-length: ${body.length}\r\n\r\n${body}`,
      );
    let said = '';
    socket.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const id = /mcp-session-id: (\S+)[^]*"result"/i.exec(said)?.[1];
      if (id === undefined) return;
      if (!withStream || said.includes('text/event-stream')) socket.resetAndDestroy();
      else ask('GET', `accept: text/event-stream\r\nmcp-session-id: ${id}\r\n`);
    });
    socket.on('error', reject).on('close', () => resolve());
    ask('POST', 'content-type: application/json\r\n', INITIALIZE);
  });
}

test('10 000 sessions whose clients die without DELETE leave no process, no descriptor, no stream and no memory', {
  timeout: 240_000,
}, async (t) => {
  const backend = await startServer();
  const fleet = await startFleet({ gateways: 0, backends: 0 });
  t.after(() => fleet.stop());
  const gateway = new Replica({
    argv: (port) => [
      '--inspect=127.0.0.1:0',
      ...command(false),
      'gateway',
      '--listen',
      `127.0.0.1:${port}`,
      '--servers',
      `http://127.0.0.1:${backend.port}/mcp`,
      '--servers-are',
      'foreign',
    ],
    env: fleet.place.env,
  });
  await gateway.start();
  t.after(async () => {
    await gateway.end('SIGKILL');
    backend.server.close();
    backend.server.closeAllConnections();
  });
  const [debug] = debuggersIn(gateway.said);
  assert.ok(debug !== undefined);
  const descriptors = () => readdirSync(`/proc/${gateway.pid}/fd`).length;
  const heap = async () => Number(await evaluateIn(debug, HEAP));
  const die = async (sessions: number, withStream: boolean) => {
    for (let left = sessions; left > 0; left -= AT_ONCE)
      await Promise.all(
        Array.from({ length: AT_ONCE }, () => dieIn(gateway.port, fleet.place.token, withStream)),
      );
  };

  // What is made once is there after some sessions of each kind.
  await die(500, false);
  await die(500, true);
  await until(async () => (await backend.connections()) === 0);
  const before = { descriptors: descriptors(), heap: await heap() };

  await die(SESSIONS - WITH_STREAM, false);
  await die(WITH_STREAM - AT_ONCE, true);
  const last = die(AT_ONCE, true);
  await until(() => descriptors() > before.descriptors);
  await last;
  // Its idle connections to the server end by themselves.
  await until(async () => (await backend.connections()) === 0);
  await until(() => descriptors() <= before.descriptors);
  const growth = (await heap()) - before.heap;
  t.diagnostic(`the heap grew by ${Math.round(growth / 1_024)} KiB`);
  assert.ok(growth < GROWTH_MAX_BYTES, `the heap grew by ${growth} bytes`);
  assert.deepEqual(descendantsOf(gateway.pid), []);
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WITHIN_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not within ${WITHIN_MS} ms: ${String(condition)}`);
    await sleep(20);
  }
}
