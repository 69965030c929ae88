import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { BOUNDARY, datasource, egressPolicy, type Mesh, ROLE, startMesh } from './testing.ts';

// The category `malicious-upstream` of the battery, held against the proxy's own door by an origin that writes its bytes itself.
// U010, a WebSocket frame, is of the tests of WebSocket.

const SECRET = 'upstream-secret-9d27+/ef=';
const PAIR = Buffer.from(`outrider:${SECRET}`).toString('base64');

type Speak = (socket: Socket, head: string) => void;

/** An origin on loopback that answers each request with bytes as given. */
async function startLiar(t: TestContext, speak: Speak) {
  const sockets = new Set<Socket>();
  /** Those that something was asked over. */
  const asking = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    let head = '';
    socket.on('data', (chunk: Buffer) => {
      asking.add(socket);
      head += chunk.toString('latin1');
      if (!head.includes('\r\n\r\n')) return;
      speak(socket, head);
      head = '';
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return { port: address.port, asking: () => asking.size };
}

/** A proxy before the liar, with a credential and without; its upstreams have two seconds. */
async function meshTo(t: TestContext, port: number, config: Record<string, unknown> = {}) {
  const endpoint = `http://127.0.0.1:${port}`;
  return startMesh(t, {
    config: { upstreamTimeout: '2s', ...config },
    secrets: { password: SECRET },
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        { id: 'basic', datasource: 'http/basic' },
        { id: 'none', datasource: 'http/none' },
      ]),
      datasource('http', 'none', endpoint),
      datasource('http', 'basic', endpoint, {
        auth: { type: 'basic', username: 'outrider' },
        secretRef: 'file:password',
      }),
    ],
  });
}

/** What a caller gets; `cut` where the answer ended before its end. */
async function asked({ ask }: Mesh, target = '/http/basic/x') {
  try {
    return await ask(target);
  } catch {
    return 'cut';
  }
}

const say =
  (...lines: readonly string[]): Speak =>
  (socket) =>
    void socket.write(lines.join('\r\n'));

const REFUSED: readonly (readonly [id: string, what: string, speak: Speak, reasons: RegExp])[] = [
  [
    'U001',
    'a length and chunks',
    say(
      'HTTP/1.1 200 OK',
      'Content-Length: 4',
      'Transfer-Encoding: chunked',
      '',
      '0',
      '',
      'HTTP/1.1 200 OK',
      '',
      '',
    ),
    /upstream_malformed|response_framing/,
  ],
  [
    'own',
    'two lengths',
    say('HTTP/1.1 200 OK', 'Content-Length: 4', 'Content-Length: 5', '', 'evil'),
    /upstream_malformed|response_framing/,
  ],
  [
    'U004',
    'an unsolicited 101',
    say('HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade', '', ''),
    /upstream_malformed|upstream_lost|unexpected_101/,
  ],
  [
    'U005',
    'endless 1xx',
    (socket) => void socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(5_000)),
    /upstream_malformed|too_many_1xx/,
  ],
  [
    'U006',
    'a head of 128 KiB',
    say('HTTP/1.1 200 OK', `X: ${'x'.repeat(131_072)}`, '', ''),
    /upstream_malformed|response_header_too_large/,
  ],
  ['own', 'no HTTP at all', say('SSH-2.0-OpenSSH_9.6', '', ''), /upstream_(malformed|lost)/],
  [
    'U008',
    'a body of gzip that was not asked for',
    (socket) => {
      const bomb = gzipSync(Buffer.alloc(2 ** 20));
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${bomb.length}\r\n\r\n`,
      );
      socket.write(bomb);
    },
    /decompression_limit/,
  ],
  [
    'U009',
    'a chain of encodings',
    say('HTTP/1.1 200 OK', 'Content-Encoding: gzip, gzip, gzip', 'Content-Length: 0', '', ''),
    /decompression_limit/,
  ],
  ['U011', 'nothing', () => {}, /upstream_timeout/],
];
for (const [id, what, speak, reasons] of REFUSED)
  test(`${id} ${what} is 502 or 504, recorded, and the proxy goes on`, async (t) => {
    let honest = false;
    const { port } = await startLiar(t, (socket, head) =>
      honest ? socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok') : speak(socket, head),
    );
    const mesh = await meshTo(t, port);
    const got = await asked(mesh);
    assert.ok(got !== 'cut');
    assert.ok([502, 504].includes(got.status), got.body);
    assert.match(String(got.headers['x-outrider-reason']), reasons);
    assert.equal(mesh.records().filter(({ event }) => event === 'request').length, 1);
    honest = true;
    const next = await asked(mesh);
    assert.ok(next !== 'cut' && next.status === 200 && next.body === 'ok', 'control');
  });

test('U003 bytes behind an answer never are the answer to the next request', async (t) => {
  let served = 0;
  const { port, asking } = await startLiar(t, (socket) => {
    served += 1;
    const surplus = served === 1 ? 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil' : '';
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${served}${surplus}`);
  });
  const mesh = await meshTo(t, port);
  const first = await asked(mesh);
  assert.ok(first === 'cut' || first.status === 502 || first.body === '1');
  const second = await asked(mesh);
  assert.ok(second !== 'cut' && second.body === '2');
  assert.equal(asking(), 2, 'the connection in doubt was not used again');
});

test('U011 an answer that begins and then stops is cut', async (t) => {
  const { port } = await startLiar(t, say('HTTP/1.1 200 OK', 'Content-Length: 100', '', 'begun'));
  const mesh = await meshTo(t, port);
  assert.equal(await asked(mesh), 'cut');
  assert.equal(
    mesh.records().findLast(({ event }) => event === 'request')?.['code'],
    'UPSTREAM_TIMEOUT',
  );
});

const ECHOES: readonly (readonly [
  id: string,
  what: string,
  (socket: Socket) => Promise<void> | void,
])[] = [
  [
    'U015',
    'split over two chunks',
    async (socket) => {
      const half = Math.floor(SECRET.length / 2);
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Length: ${SECRET.length}\r\n\r\n${SECRET.slice(0, half)}`,
      );
      await sleep(30); // two reads, and the test holds for one as well
      socket.write(SECRET.slice(half));
    },
  ],
  [
    'U016',
    'in base64, hex and URL encoding',
    (socket) => {
      const body = [PAIR, Buffer.from(SECRET).toString('hex'), encodeURIComponent(SECRET)].join(
        ' ',
      );
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    },
  ],
  [
    'U017',
    'in the reason, a header and its name',
    (socket) =>
      void socket.write(
        `HTTP/1.1 200 ${SECRET}\r\nX-Echo: ${SECRET}\r\nX-Pair: Basic ${PAIR}\r\nContent-Length: 0\r\n\r\n`,
      ),
  ],
  [
    'own trailer',
    'in a trailer and a chunk extension',
    (socket) =>
      void socket.write(
        `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Echo\r\n\r\n2;e="${SECRET}"\r\nok\r\n0\r\nX-Echo: ${SECRET}\r\n\r\n`,
      ),
  ],
  [
    'own early',
    'in an informational answer',
    (socket) =>
      void socket.write(
        `HTTP/1.1 103 Early Hints\r\nLink: <${SECRET}>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`,
      ),
  ],
  [
    'own garbage',
    'in what is no HTTP',
    (socket) => void socket.write(`HTTP/9.9 ${SECRET}\r\n${SECRET}\r\n\r\n${SECRET}`),
  ],
];
for (const [id, what, echo] of ECHOES)
  test(`${id} the credential echoed ${what} does not come back, neither to the caller nor into the audit`, async (t) => {
    const { port } = await startLiar(t, (socket) => void echo(socket));
    const mesh = await meshTo(t, port);
    const got = await asked(mesh);
    assert.ok(got !== 'cut');
    const everything = JSON.stringify([got, mesh.records()]);
    for (const shape of [
      SECRET,
      PAIR,
      Buffer.from(SECRET).toString('hex'),
      encodeURIComponent(SECRET),
    ])
      assert.ok(!everything.includes(shape), shape);
    // Control: where the credential is not ours to hide, what can be passed on is.
    if (['U015', 'U016', 'U017'].includes(id)) {
      const open = await asked(mesh, '/http/none/x');
      assert.ok(open !== 'cut' && JSON.stringify(open).includes(id === 'U016' ? PAIR : SECRET));
    }
  });

test('a credential that comes back is an alert: one record and a count, in a header as in a body; not where that is switched off', async (t) => {
  const { port } = await startLiar(
    t,
    (socket) =>
      void socket.write(
        `HTTP/1.1 200 OK\r\nX-Echo: ${SECRET}\r\nContent-Length: ${SECRET.length}\r\n\r\n${SECRET}`,
      ),
  );
  const alerts = (mesh: Mesh) => mesh.records().filter(({ event }) => event === 'secret');
  const [on, off] = [
    await meshTo(t, port),
    await meshTo(t, port, { alertOnReturnedSecret: false }),
  ];
  for (const mesh of [on, off]) {
    await asked(mesh, '/http/none/x');
    assert.equal(alerts(mesh).length, 0, 'without a credential there is nothing to come back');
    await asked(mesh);
    assert.match(await metricsOf(mesh), /^outrider_secret_returns_total(\{.*\})? 1$/m);
  }
  assert.equal(alerts(off).length, 0);
  const [alert] = alerts(on);
  assert.equal(alerts(on).length, 1);
  assert.equal(alert?.['credential'], 'datasource:http/basic');
  assert.equal(alert?.['execId'], 'exec-test');
  assert.match(String(alert?.['detail']), /in 2 places, covered/);
});

async function metricsOf({ addresses: { admin } }: Mesh): Promise<string> {
  assert.ok(admin.kind === 'tcp');
  return (await fetch(`http://${admin.host}:${admin.port}/metrics`)).text();
}
