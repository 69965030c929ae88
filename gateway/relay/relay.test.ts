import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeServer, listen } from '#core/http';
import { readTrustedIssuers } from '#core/keys';
import { AssertionVerifier } from '#core/tokens';
import { startGateway, startHttp } from '../testing.ts';

const BODY = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' });

function post(origin: string, headers: Record<string, string>, body: string | Buffer = BODY) {
  return fetch(`${origin}/mcp`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
  });
}

/** The JSON-RPC error's own code in our terms. */
async function codeOf(response: Response): Promise<string> {
  return Object(await response.json()).error.data.code;
}

test("a request passes byte for byte, with the allowed headers and the gateway's own", async (t) => {
  let seen: IncomingMessage | undefined;
  let body = '';
  const server = await startHttp(t, async (request, response) => {
    seen = request;
    body = await text(request);
    response.end();
  });
  const { origin, authorization, assertionIssuers } = await startGateway(t, [server]);
  const odd = ' {"jsonrpc" : "2.0",\n"id":1,"x":1.0e0}\t';
  await post(
    origin,
    {
      authorization,
      accept: 'application/json, text/event-stream',
      cookie: 'a=b',
      'x-api-key': 'client-secret',
      'x-forwarded-for': '192.0.2.1',
      'mcp-protocol-version': '2026-07-28',
      'mcp-param-sandbox': '=?base64?aA==?=',
      'last-event-id': '7',
      traceparent: '00-1-2-01',
      'x-request-id': 'req-from-client',
    },
    odd,
  );
  assert.equal(body, odd);
  assert.ok(seen);
  const {
    host: _host,
    connection: _connection,
    'content-length': _length,
    ...headers
  } = seen.headers;
  const { authorization: sent, ...rest } = headers;
  assert.deepEqual(rest, {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2026-07-28',
    'mcp-param-sandbox': '=?base64?aA==?=',
    'last-event-id': '7',
    traceparent: '00-1-2-01',
    'x-request-id': 'req-from-client',
  });
  const verifier = new AssertionVerifier(readTrustedIssuers(assertionIssuers));
  const { principal } = await verifier.verify(sent?.replace('Bearer ', '') ?? '');
  assert.equal(principal.subject, 'local');
});

test('an answer passes with its status, and a server can neither set a cookie nor redirect', async (t) => {
  const server = await startHttp(t, (_, response) => {
    response.writeHead(400, {
      'content-type': 'application/json',
      'mcp-session-id': 's-1',
      'set-cookie': 'a=b',
      location: 'https://elsewhere.example',
      server: 'internal/1.0',
      'x-outrider-anything': '1',
    });
    response.end('{"jsonrpc":"2.0", "id":null}');
  });
  const { origin, authorization } = await startGateway(t, [server]);
  const response = await post(origin, { authorization, 'x-request-id': 'mine' });
  assert.equal(response.status, 400);
  assert.equal(await response.text(), '{"jsonrpc":"2.0", "id":null}');
  assert.equal(response.headers.get('x-request-id'), 'mine');
  for (const name of ['set-cookie', 'location', 'server', 'x-outrider-anything', 'mcp-session-id'])
    assert.equal(response.headers.get(name), null, name);
});

test('events pass as they come, comments and ids untouched', { timeout: 120_000 }, async (t) => {
  const pieces = [': keep-alive\n\n', 'id: 1\nretry: 5\ndata: {"a":1}\n\n', 'data: {"b":2}\n\n'];
  let open: (response: ServerResponse) => void = () => {};
  const opened = new Promise<ServerResponse>((resolve) => {
    open = resolve;
  });
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    open(response);
  });
  const { origin, authorization } = await startGateway(t, [server]);
  // The headers are here while the server has written nothing else, and each piece before the next is written.
  const { body } = await post(origin, { authorization });
  const atServer = await opened;
  const reader = body?.getReader();
  assert.ok(reader);
  for (const piece of pieces) {
    atServer.write(piece);
    const { value } = await reader.read();
    assert.equal(Buffer.from(value ?? []).toString(), piece);
  }
  atServer.end();
  assert.equal((await reader.read()).done, true);
});

test('a client that goes away ends the request at the server', {
  timeout: 120_000,
}, async (t) => {
  let closed: (after: number) => void = () => {};
  const closedAfter = new Promise<number>((resolve) => {
    closed = resolve;
  });
  let goneAt = 0;
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(': open\n\n');
    response.once('close', () => closed(performance.now() - goneAt));
  });
  const { origin, authorization } = await startGateway(t, [server]);
  const abort = new AbortController();
  const response = await fetch(`${origin}/mcp`, {
    method: 'POST',
    headers: { authorization },
    body: BODY,
    signal: abort.signal,
  });
  assert.equal(response.status, 200);
  goneAt = performance.now();
  abort.abort();
  const after = await closedAfter;
  assert.ok(after < 60_000, `closed after ${after} ms`); // the server itself would go on for ever
});

test('a slow client slows the server down instead of filling the gateway', async (t) => {
  const total = 192 * 2 ** 20; // a kernel may hold 30 MB for each of the two connections
  let written = 0;
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const source = new Readable({
      read() {
        written += 2 ** 16;
        this.push(written > total ? null : Buffer.alloc(2 ** 16, 'x'));
      },
    });
    source.pipe(response);
  });
  // A check of its health would be answered from the same source.
  const { origin, authorization } = await startGateway(t, [server], { healthInterval: 600_000 });
  const client = httpRequest(`${origin}/mcp`, { method: 'POST', headers: { authorization } });
  client.end(BODY);
  const [response]: IncomingMessage[] = await once(client, 'response');
  assert.ok(response);
  for (let before = -1; before !== written; ) {
    before = written;
    for (let turns = 0; turns < 30; turns++) await sleep(10);
  }
  assert.ok(written < total / 2, `the server got rid of ${written} bytes that nobody reads`);
  let read = 0;
  for await (const chunk of response) read += chunk.length;
  assert.equal(read, total);
});

test('A9: a body over the limit is 413, declared or chunked; one at the limit passes', async (t) => {
  let requests = 0;
  const server = await startHttp(t, async (request, response) => {
    requests += 1;
    response.end(String((await text(request)).length));
  });
  const { origin, authorization } = await startGateway(t, [server], { maxBody: 1_000 });
  const sized = (size: number) => BODY.padEnd(size);
  const chunked = (size: number) =>
    fetch(`${origin}/mcp`, {
      method: 'POST',
      headers: { authorization },
      body: new ReadableStream({
        start(controller) {
          const body = Buffer.from(sized(size));
          for (let at = 0; at < size; at += 100) controller.enqueue(body.subarray(at, at + 100));
          controller.close();
        },
      }),
      duplex: 'half',
    });
  assert.equal(await (await post(origin, { authorization }, sized(1_000))).text(), '1000');
  assert.equal(await (await chunked(1_000)).text(), '1000');
  assert.equal(requests, 2);
  for (const response of [
    await post(origin, { authorization }, sized(1_001)),
    await chunked(1_100),
    await chunked(4_000_000),
  ]) {
    assert.equal(response.status, 413);
    assert.equal(await codeOf(response), 'BODY_TOO_LARGE');
  }
  assert.equal(requests, 2, 'nothing of a refused body reaches a server');
});

test('a server that cannot be reached is passed over, and the call is answered by the other', async (t) => {
  const alive = await startHttp(t, (request, response) => {
    request.resume();
    response.end('{}');
  });
  const { origin, authorization } = await startGateway(t, ['http://127.0.0.1:1', alive]);
  for (let call = 0; call < 10; call++)
    assert.equal((await post(origin, { authorization })).status, 200);
});

test('with no server there, the answer is 502 and says so', async (t) => {
  const { origin, authorization } = await startGateway(t, [
    'http://127.0.0.1:1',
    'http://127.0.0.1:1',
  ]);
  const response = await post(origin, { authorization });
  assert.equal(response.status, 502);
  assert.equal(await codeOf(response), 'UPSTREAM_UNREACHABLE');
});

test('a call whose server is lost is never sent to another', async (t) => {
  const seen: string[] = [];
  const losing = (name: string) =>
    startHttp(t, (request) => {
      seen.push(name);
      request.socket.destroy();
    });
  const { origin, authorization } = await startGateway(t, [await losing('a'), await losing('b')]);
  const response = await post(origin, { authorization });
  assert.equal(response.status, 502);
  assert.equal(await codeOf(response), 'UPSTREAM_LOST');
  assert.equal(seen.length, 1);
});

test('an event stream that breaks off at the server breaks off at a client that listens', async (t) => {
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: 1\n\n', () => response.destroy());
  });
  const { origin, authorization } = await startGateway(t, [server]);
  const response = await fetch(`${origin}/mcp`, { headers: { authorization } });
  await assert.rejects(response.text());
});

test("a server that refuses the gateway is the gateway's fault, not the client's", async (t) => {
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(401).end();
  });
  const { origin, authorization } = await startGateway(t, [server]);
  const response = await post(origin, { authorization });
  assert.equal(response.status, 502);
  assert.equal(response.headers.get('www-authenticate'), null);
  assert.equal(await codeOf(response), 'UPSTREAM_UNREACHABLE');
});

test('a server that closed an idle connection loses no call', async (t) => {
  const server = createServer((request, response) => {
    request.resume();
    response.end('{}');
  });
  server.keepAliveTimeout = 50;
  const { port } = Object(await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 }));
  t.after(() => closeServer(server));
  const { origin, authorization } = await startGateway(t, [`http://127.0.0.1:${port}`]);
  for (let call = 0; call < 5; call++) {
    assert.equal((await post(origin, { authorization })).status, 200);
    await sleep(120);
  }
});

test('a client that vanishes in the middle of its body leaves nothing behind', async (t) => {
  let requests = 0;
  const server = await startHttp(t, (_, response) => {
    requests += 1;
    response.end('{}');
  });
  const { origin, authorization } = await startGateway(t, [server]);
  const { port } = new URL(origin);
  const socket = connect(Number(port), '127.0.0.1');
  socket.write(
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${authorization}\r\nContent-Length: 100\r\n\r\nhalf`,
  );
  await sleep(50);
  socket.destroy();
  await sleep(50);
  assert.equal(requests, 0);
  assert.equal((await post(origin, { authorization })).status, 200, 'the gateway goes on');
});

test('a refused body that never ends is cut after 2 s', { timeout: 120_000 }, async (t) => {
  const { origin, authorization } = await startGateway(t, ['http://127.0.0.1:1'], { maxBody: 10 });
  const socket = connect(Number(new URL(origin).port), '127.0.0.1');
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  socket.write(
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${authorization}\r\nTransfer-Encoding: chunked\r\n\r\n`,
  );
  const started = performance.now();
  const sending = setInterval(() => socket.write(`14\r\n${'x'.repeat(20)}\r\n`), 100);
  t.after(() => clearInterval(sending));
  let answer = '';
  socket.on('data', (data: Buffer) => {
    answer += data.toString();
  });
  // `once` of node:events would reject where the cut reaches this side as a reset.
  await new Promise((resolve) => socket.once('close', resolve));
  assert.match(answer, /^HTTP\/1\.1 413 /);
  const after = performance.now() - started;
  assert.ok(after > 1_500 && after < 4_000, `cut after ${after} ms`);
});

test('a body that is declared too large is refused before it is sent', {
  timeout: 120_000,
}, async (t) => {
  const { origin, authorization } = await startGateway(t, ['http://127.0.0.1:1'], { maxBody: 10 });
  const socket = connect(Number(new URL(origin).port), '127.0.0.1');
  t.after(() => socket.destroy());
  socket.write(
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${authorization}\r\nContent-Length: 11\r\n\r\n`,
  );
  const [answer]: unknown[] = await once(socket, 'data');
  assert.match(String(answer), /^HTTP\/1\.1 413 /);
});
