import assert from 'node:assert/strict';
import { connect, createServer as createNetServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { closeServer } from '../http.ts';
import type { HttpResponse } from '../http-exchange.ts';
import { PlainServer } from './plain-server.ts';
import { ExactConnection, until } from './test-rig.ts';
import { get, post, type Serve, served, servedOverTls } from './testing/plain.ts';

/** Says the path of each request, and its body. */
const echo: Serve = (request, response) => {
  let body = '';
  request.on('data', (chunk) => {
    body += chunk.toString('latin1');
  });
  request.on('end', () => response.end(`<${request.url} ${body}>`));
};

/** Keeps what comes until it is told to answer. */
class Held {
  readonly responses: HttpResponse[] = [];
  /** Paths whose answer has been told to be over, in order. */
  readonly closed: string[] = [];

  readonly serve: Serve = (request, response) => {
    this.responses.push(response);
    response.on('close', () => void this.closed.push(request.url ?? ''));
  };

  async answer(at: number): Promise<void> {
    (await this.take(at)).end(`<${at}>`);
  }

  async take(at: number): Promise<HttpResponse> {
    await until(`request ${at}`, () => this.responses.length > at);
    const response = this.responses[at];
    assert.ok(response);
    return response;
  }
}

/** In what pieces bytes come, how many answers there are after each, and which of their requests are plain. */
const WAYS: readonly (readonly [
  what: string,
  pieces: readonly (readonly [string, number])[],
  plain: string,
])[] = [
  ['one request', [[get('/a'), 1]], '1'],
  [
    'one after the other',
    [
      [get('/a'), 1],
      [post('/b', 'xy'), 2],
      [get('/c'), 3],
    ],
    '111',
  ],
  ['all at once', [[get('/a') + post('/b', 'xy') + get('/c'), 3]], '000'],
  [
    'a head in two',
    [
      ['GET /a HT', 0],
      ['TP/1.1\r\nHost: a.test\r\n\r\n', 1],
    ],
    '0',
  ],
  [
    'a head without its last byte',
    [
      [get('/a').slice(0, -1), 0],
      ['\n', 1],
    ],
    '0',
  ],
  [
    'a body after its head',
    [
      [post('/a', 'xyz').slice(0, -3), 0],
      ['xyz', 1],
    ],
    '0',
  ],
  [
    'a body in two',
    [
      [post('/a', 'xyz').slice(0, -1), 0],
      ['z', 1],
    ],
    '0',
  ],
  [
    'a plain one, then one in two',
    [
      [get('/a'), 1],
      ['G', 1],
      [get('/b').slice(1), 2],
    ],
    '10',
  ],
  [
    'a plain one, then two',
    [
      [get('/a'), 1],
      [get('/b') + get('/c'), 3],
    ],
    '100',
  ],
  [
    'one and the begin of another',
    [
      [get('/a') + get('/b').slice(0, 9), 1],
      [get('/b').slice(9), 2],
    ],
    '00',
  ],
  [
    'plain ones behind one that is not',
    [
      [get('/a', 'x: y '), 1],
      [get('/b'), 2],
      [get('/c'), 3],
    ],
    '000',
  ],
  [
    'chunks behind a plain one',
    [
      [get('/a'), 1],
      [`${get('/b', 'Transfer-Encoding: chunked')}2\r\nxy\r\n`, 1],
      ['2\r\nzz\r\n0\r\n\r\n', 2],
      [get('/c'), 3],
    ],
    '100',
  ],
  [
    'HTTP/1.0 behind a plain one',
    [
      [get('/a'), 1],
      [get('/b').replace('1.1', '1.0'), 2],
    ],
    '10',
  ],
];
for (const [what, pieces, plain] of WAYS)
  test(`every request is answered once and in order: ${what}`, async (t) => {
    const { dial, hasRead, requests } = await served(t, echo);
    const client = dial();
    const said = pieces.map(([piece]) => piece).join('');
    const urls = [...said.matchAll(/(?:GET|POST) (\S+)/g)].map(([, url]) => url);
    for (const [piece, answers] of pieces) {
      client.send(piece);
      await hasRead(client);
      await until('answers', () => bodies(client.received).length === answers);
    }
    assert.deepEqual(
      bodies(client.received).map((body) => body.split(' ')[0]),
      urls.map((url) => `<${url}`),
    );
    assert.deepEqual(
      requests.map(({ url }) => url),
      urls,
    );
    assert.equal(requests.map(({ isPlain }) => (isPlain ? 1 : 0)).join(''), plain);
  });

test('a long body comes whole and in order, however it is cut where Node takes over', async (t) => {
  for (const open of [served, servedOverTls]) {
    const { dial, requests } = await open(t, echo);
    const body = Array.from({ length: 60_000 }, (_, at) => `${at};`).join('');
    const client = dial();
    client.send(get('/first'));
    await client.said(/<\/first >/);
    client.send(post('/long', body));
    await client.said(/9;>/);
    assert.ok(client.received.includes(`</long ${body}>`), open.name);
    client.send(get('/last'));
    await client.said(/<\/last >/);
    assert.deepEqual(
      requests.map(({ isPlain }) => isPlain),
      [true, false, false],
    );
  }
});

test('over TLS plain requests are taken, with bodies and without, and answers of nothing end', async (t) => {
  const { dial, requests } = await servedOverTls(t, (request, response) => {
    response.writeHead(200, { 'content-length': 1 });
    response.write(Buffer.from(request.whole ?? 'no'));
    response.end();
  });
  const client = dial();
  for (const body of ['a', 'b', 'c']) {
    client.send(post('/', body));
    await client.said(new RegExp(`\r\n\r\n${body}$`));
  }
  assert.deepEqual(
    requests.map(({ isPlain }) => isPlain),
    [true, true, true],
  );
});

test('many connections at once keep their requests apart', async (t) => {
  const waiting: (() => void)[] = [];
  const { dial, requests } = await served(t, (request, response) => {
    waiting.push(() => response.end(`<${request.url} ${String(request.whole ?? '')}>`));
  });
  const clients = Array.from({ length: 40 }, dial);
  for (let round = 0; round < 5; round += 1) {
    for (const [at, client] of clients.entries())
      client.send(post(`/${at}/${round}`, `body ${at} ${round}`));
    await until('all', () => waiting.length === clients.length);
    for (const answer of waiting.splice(0).toReversed()) answer();
    await until('answers', () =>
      clients.every((client) => bodies(client.received).length === round + 1),
    );
  }
  for (const [at, client] of clients.entries())
    assert.deepEqual(
      bodies(client.received),
      Array.from({ length: 5 }, (_, round) => `</${at}/${round} body ${at} ${round}>`),
    );
  assert.ok(requests.every(({ isPlain }) => isPlain));
});

// What comes while a request is being answered.

test('what a client says ahead of its turn waits, and is then served in order', async (t) => {
  const held = new Held();
  const { dial, hasRead, requests } = await served(t, held.serve);
  const client = dial();
  client.send(get('/a'));
  await held.take(0);
  client.send(get('/b'));
  await hasRead(client);
  client.send(get('/c').slice(0, 5));
  await hasRead(client);
  assert.equal(held.responses.length, 1);
  await held.answer(0);
  await held.answer(1);
  client.send(get('/c').slice(5));
  await held.answer(2);
  await client.said(/<0>[^]*<1>[^]*<2>/);
  assert.deepEqual(
    requests.map(({ url, isPlain }) => [url, isPlain]),
    [
      ['/a', true],
      ['/b', false],
      ['/c', false],
    ],
  );
});

test('a whole request that came ahead, and a single one, is plain again', async (t) => {
  const held = new Held();
  const { dial, hasRead, requests } = await served(t, held.serve);
  const client = dial();
  for (let at = 0; at < 5; at += 1) {
    if (at === 0) client.send(get('/0'));
    await held.take(at);
    client.send(get(`/${at + 1}`));
    await hasRead(client);
    await held.answer(at);
  }
  await held.take(5);
  assert.deepEqual(
    requests.map(({ url, isPlain }) => [url, isPlain]),
    Array.from({ length: 6 }, (_, at) => [`/${at}`, true]),
  );
  assert.deepEqual(held.closed, ['/0', '/1', '/2', '/3', '/4']);
});

test('a client that says far more ahead than is kept has to wait, and loses nothing of it', async (t) => {
  const held = new Held();
  const { dial, otherSide, requests } = await served(t, (request, response) => {
    if (request.url === '/held') held.serve(request, response);
    else echo(request, response);
  });
  const client = dial();
  client.send(get('/held'));
  await held.take(0);
  const body = 'x'.repeat(20_000_000);
  client.send(post('/long', body));
  client.send(get('/end'));
  const there = await otherSide(client);
  await until('it to have to wait', () => there.isPaused());
  assert.ok(there.bytesRead < 1_000_000);
  await held.answer(0);
  await client.said(/<\/end >$/);
  assert.ok(client.received.includes(`</long ${body}>`));
  assert.deepEqual(
    requests.map(({ url }) => url),
    ['/held', '/long', '/end'],
  );
});

test('behind an answer that ends the connection nothing is done, whenever it comes', async (t) => {
  for (const who of ['client', 'server'] as const)
    for (const over of [served, servedOverTls]) {
      const held = new Held();
      const { dial, requests } = await over(t, held.serve);
      const client = dial();
      client.send(who === 'client' ? get('/a', 'Connection: close') : get('/a'));
      const response = await held.take(0);
      client.send(get('/ahead'));
      await pause();
      if (who === 'server') response.setHeader('connection', 'close');
      // In the time between the last byte and the end of the connection, too.
      const { socket } = response.req;
      response.on('close', () => process.nextTick(() => socket.push(Buffer.from(get('/late')))));
      await held.answer(0);
      await client.closed();
      assert.match(client.received, /connection: close\r\n[^]*<0>$/);
      assert.deepEqual(
        requests.map(({ url }) => url),
        ['/a'],
        `${who}, ${over.name}`,
      );
    }
});

test('a request whose answer could not be sent any more is not served', async (t) => {
  const held = new Held();
  const { dial, hasRead, requests } = await served(t, held.serve);
  const client = dial();
  client.send(get('/a'));
  const response = await held.take(0);
  client.send(get('/ahead'));
  await hasRead(client);
  // As the gateway does when it is about to stop: the head is out already and says nothing of it.
  response.flushHeaders();
  response.on('close', () => void response.req.socket.end());
  response.end('last');
  await client.said(/last/);
  client.send(get('/late'));
  await client.closed();
  assert.deepEqual(
    requests.map(({ url }) => url),
    ['/a'],
  );
});

// Clients that go.

test('who goes while being answered is told of once, and the request, too', async (t) => {
  for (const way of ['end', 'resetAndDestroy', 'destroy'] as const) {
    const told: string[] = [];
    const held = new Held();
    const { dial } = await served(t, (request, response) => {
      held.serve(request, response);
      request.on('close', () => void told.push('request'));
      response.on('close', () => void told.push('response'));
    });
    const client = dial();
    client.send(get('/'));
    const response = await held.take(0);
    response.write(Buffer.from('half'));
    await client.said(/half/);
    client.socket[way]();
    await until('the close', () => told.length > 0);
    await pause();
    assert.deepEqual(told, ['response', 'request'], way);
    assert.deepEqual(
      [response.destroyed, response.writableFinished, response.socket],
      [true, false, null],
    );
    assert.equal(response.write(Buffer.from('more')), false);
    response.end('nobody hears it');
    response.destroy();
    await pause();
    assert.equal(told.length, 2);
  }
});

test('who says nothing more after a request still gets what has been written, and a request behind it ends nothing', async (t) => {
  const large = Buffer.alloc(8_000_000, 'x');
  for (const behind of ['', get('/b'), 'G']) {
    const held = new Held();
    const { dial, requests } = await served(t, held.serve);
    const client = dial();
    client.socket.pause();
    client.send(get('/a'));
    const response = await held.take(0);
    client.send(behind);
    await pause();
    // More than the system keeps: it is still under way when the client's end comes.
    response.end(large.toString('latin1'), 'latin1');
    client.socket.end();
    await pause();
    client.socket.resume();
    await client.closed();
    assert.equal(client.received.split('\r\n\r\n')[1]?.length, large.length);
    assert.deepEqual(
      requests.map(({ url }) => url),
      ['/a'],
    );
    assert.deepEqual(held.closed, ['/a']);
  }
});

test('an answer that is cut tells its end once, and not while it is being cut', async (t) => {
  for (const cut of ['response', 'request'] as const) {
    const told: string[] = [];
    const { dial } = await served(t, (request, response) => {
      response.on('close', () => void told.push('close'));
      if (cut === 'response') response.destroy();
      else request.destroy();
      told.push('cut');
      response.end('nothing');
      response.destroy();
    });
    const client = dial();
    client.send(get('/'));
    await client.closed();
    assert.deepEqual([client.received, told], ['', ['cut', 'close']]);
  }
});

test('a request whose answer is out cannot cut the next one', async (t) => {
  const held = new Held();
  const { dial } = await served(t, held.serve);
  const client = dial();
  client.send(get('/a'));
  const first = await held.take(0);
  await held.answer(0);
  await client.said(/<0>/);
  client.send(get('/b'));
  await held.take(1);
  first.req.destroy();
  first.destroy();
  await held.answer(1);
  await client.said(/<1>/);
});

test('a body is told to whoever listens after the answer, too', async (t) => {
  const heard: string[] = [];
  const { dial } = await served(t, (request, response) => {
    response.end('soon');
    request.on('data', (chunk) => void heard.push(chunk.toString('latin1')));
    request.on('end', () => void heard.push('end'));
  });
  const client = dial();
  client.send(post('/', 'abc'));
  await client.said(/soon/);
  await until('its end', () => heard.includes('end'));
  assert.deepEqual(heard, ['abc', 'end']);
});

// The end of a server.

test('closing the server ends connections that wait for another request, and lets the rest end', async (t) => {
  const held = new Held();
  const { dial, server } = await served(t, held.serve);
  const [idle, busy, fresh] = [dial(), dial(), dial()];
  idle.send(get('/idle'));
  await held.answer(0);
  await idle.said(/<0>/);
  busy.send(get('/busy'));
  await held.take(1);
  await connections(server, 3);
  const closed = new Promise((resolve) => void server.close(resolve));
  await idle.closed();
  // Its first request may have been on its way.
  fresh.send(get('/fresh'));
  await held.answer(2);
  await fresh.said(/<2>/);
  await held.answer(1);
  await busy.said(/<1>/);
  server.closeIdleConnections();
  await closed;
});

test('closing all connections cuts silent ones, idle ones, those being answered, and those that Node has', async (t) => {
  const held = new Held();
  const { dial, server } = await served(t, held.serve);
  const [silent, idle, busy, given] = [dial(), dial(), dial(), dial()];
  idle.send(get('/idle'));
  await held.answer(0);
  await idle.said(/<0>/);
  busy.send(get('/busy'));
  await held.take(1);
  given.send(get('/given', 'x: y '));
  await held.take(2);
  await connections(server, 4);
  const closed = new Promise((resolve) => void server.close(resolve));
  server.closeAllConnections();
  for (const client of [silent, idle, busy, given]) await client.closed();
  await closed;
  assert.deepEqual(held.closed.toSorted(), ['/busy', '/given', '/idle']);
});

test('a server that is about to stop ends each connection with its answer', async (t) => {
  const held = new Held();
  const { dial, server } = await served(t, held.serve);
  const client = dial();
  client.send(get('/a'));
  await held.answer(0);
  await client.said(/connection: keep-alive\r\n/);
  const stopped = closeServer(server, 60_000, 60_000);
  client.send(get('/b'));
  await held.answer(1);
  await client.closed();
  assert.match(client.received, /connection: close\r\n[^]*<1>$/);
  await stopped;
});

test('an answer that says itself that the connection stays is believed, but not against its client', async (t) => {
  const { dial, server } = await served(t, (_request, response) => {
    response.writeHead(200, ['Connection', 'keep-alive']).end('x');
  });
  server.prependListener('request', (_request, response: HttpResponse) => {
    response.shouldKeepAlive = false;
  });
  const client = dial();
  client.send(get('/a'));
  await client.said(/x$/);
  client.send(get('/b'));
  await until('two', () => client.received.match(/x(?=HTTP|$)/g)?.length === 2);
  client.send(get('/c', 'Connection: close'));
  await client.closed();
});

// Time.

test('a silent connection is closed after headersTimeout, an idle one after keepAliveTimeout, and one being answered never', async (t) => {
  const held = new Held();
  const { dial, server } = await served(t, held.serve);
  const busy = dial();
  busy.send(get('/busy'));
  await held.take(0);
  const [silent, idle] = [dial(), dial()];
  idle.send(get('/idle'));
  await held.answer(1);
  await idle.said(/<1>/);
  server.headersTimeout = 1;
  server.keepAliveTimeout = 1;
  await silent.closed();
  await idle.closed();
  assert.match(idle.received, /<1>$/);
  await held.answer(0);
  await busy.said(/<0>/);
  await busy.closed();
});

test('what is slow behind a plain request is bounded by the time-outs of Node', async (t) => {
  for (const slow of ['GET /b HT', post('/b', 'xyz').slice(0, -1)]) {
    const { dial, server } = await served(t, echo, { connectionsCheckingInterval: 100 });
    const client = dial();
    client.send(get('/a'));
    await client.said(/<\/a >/);
    server.headersTimeout = 300;
    server.requestTimeout = 300;
    client.send(slow);
    await client.closed();
    assert.match(client.received, /HTTP\/1\.1 408 /);
  }
});

test('nothing is kept of connections that are gone, whoever had them', async (t) => {
  const { dial, hasRead, server } = await served(t, echo);
  const sockets: WeakRef<Socket>[] = [];
  server.on('connection', (socket: Socket) => void sockets.push(new WeakRef(socket)));
  for (const text of [get('/a'), get('/a', 'x: y '), get('/a') + get('/b'), 'G']) {
    const clients = Array.from({ length: 20 }, dial);
    for (const client of clients) client.send(text);
    for (const client of clients) await hasRead(client);
    for (const client of clients) client.socket.destroy();
    await connections(server, 0);
  }
  assert.equal(sockets.length, 80);
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  // A parser of Node's that is free may know the last one it had.
  await until('them to be collected', () => {
    collect();
    return sockets.filter((socket) => socket.deref()).length < 8;
  });
});

test('a server counts the connections that ours has, and refuses those beyond its bound', async (t) => {
  const { dial, server } = await served(t, echo);
  server.maxConnections = 2;
  const [one, two] = [dial(), dial()];
  one.send(get('/a'));
  await one.said(/<\/a >/);
  await connections(server, 2);
  const three = dial();
  await three.closed();
  one.socket.destroy();
  await connections(server, 1);
  const four = dial();
  four.send(get('/d'));
  await four.said(/<\/d >/);
  two.send(get('/b'));
  await two.said(/<\/b >/);
});

test('a connection that has been looked at before is taken with the bytes that were read', async (t) => {
  const { server, requests } = await served(t, echo, { lane: 'node' });
  const readHttp = server.listeners('connection').at(-1);
  const plain = new PlainServer(server, (socket) => void readHttp?.call(server, socket), 16_384);
  const outer = createNetServer((socket) => {
    socket.once('data', (bytes) => {
      socket.pause();
      socket.unshift(bytes);
      plain.accept(socket);
    });
  });
  await new Promise<void>((resolve) => void outer.listen(0, '127.0.0.1', resolve));
  t.after(() => outer.close());
  const address = outer.address();
  assert.ok(address !== null && typeof address === 'object');
  for (const [text, isPlain] of [
    [get('/a'), true],
    [get('/b', 'x: y '), false],
  ] as const) {
    const client = new ExactConnection(connect(address.port, '127.0.0.1'));
    t.after(() => client.socket.destroy());
    client.send(text);
    await client.said(/<\/. >$/);
    assert.equal(requests.at(-1)?.isPlain, isPlain);
  }
});

/** The bodies of answers, which stand in angle brackets. */
function bodies(received: string): string[] {
  return received.match(/<[^<>]*>/g) ?? [];
}

/** For what should not happen, and for bytes to come in pieces of their own: a slow machine makes this weaker, and no test fail. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20));
}

async function connections(
  server: { getConnections(then: (error: Error | null, count: number) => void): unknown },
  count: number,
): Promise<void> {
  let now = -1;
  await until(`${count} connections`, () => {
    server.getConnections((_error, open) => {
      now = open;
    });
    return now === count;
  });
}
