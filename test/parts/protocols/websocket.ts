import assert from 'node:assert/strict';
import { createServer as createPlainServer, type IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { ProxyAgent, WebSocket } from 'undici';
import { canonicalJson } from '#policies';
import { askDoor } from '../../support/data-path.ts';
import { until } from '../../support/mesh.ts';
import { HOST, type ProtocolPath, SECRET, startProtocolPath } from '../../support/protocol-path.ts';
import { acceptWebSocket, type SeenSocket } from '../../support/websocket-host.ts';

const RULES = `
    - {id: ws, hosts: [api.example.com], methods: [GET], paths: ["/ws/**"], protocols: [websocket], limits: {concurrent: 3}}
    - {id: small, hosts: [api.example.com], methods: [GET], paths: [/small], protocols: [websocket], limits: {requestBytes: 1KiB, responseBytes: 1KiB}}
    - {id: short, hosts: [api.example.com], methods: [GET], paths: [/short], protocols: [websocket], limits: {duration: 1s}}
    - {id: pages, hosts: [api.example.com], methods: [GET], paths: ["/pages/**"]}
    - {id: cred, hosts: [cred.example.com], methods: [GET], paths: any, protocols: [websocket], credential: token}
    - {id: plain, scheme: http, hosts: [plain.example.com], methods: [GET], paths: ["/ws/**"], protocols: [websocket]}
    - {id: web, scheme: http, ports: [8080], hosts: [plain.example.com], methods: [GET], paths: any}
`;

let built: ProtocolPath;
const seen: SeenSocket[] = [];
/** Requests that were answered as requests. */
const asked: string[] = [];
/** How the host answers an upgrade. */
let answer: (request: IncomingMessage, socket: Duplex) => void = accept;
const servers: ReturnType<typeof createPlainServer>[] = [];

function accept(request: IncomingMessage, socket: Duplex): void {
  seen.push(acceptWebSocket(request, socket));
}

before(async () => {
  built = await startProtocolPath(RULES);
  for (const [server, port] of [
    [createServer(built.certificate), 443],
    [createPlainServer(), 80],
  ] as const) {
    server.on('request', (request, response) => {
      asked.push(request.url ?? '');
      response.end('a page');
    });
    server.on('upgrade', (request, socket) => answer(request, socket));
    await new Promise<void>((resolve) => server.listen(port, HOST, resolve));
    servers.push(server);
  }
});
after(async () => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  await built?.stop();
});

interface Client {
  readonly socket: WebSocket;
  readonly texts: string[];
  closed: boolean;
}

/** Node's own WebSocket, with the proxy and the CA that a program in a sandbox has. */
function client(url: string): Promise<Client> {
  const dispatcher = new ProxyAgent({
    uri: `http://127.0.0.1:${built.doorPort}`,
    requestTls: { ca: built.opened.ca },
  });
  const socket = new WebSocket(url, { dispatcher });
  const one: Client = { socket, texts: [], closed: false };
  socket.addEventListener('message', ({ data }) => one.texts.push(String(data)));
  socket.addEventListener('close', () => {
    one.closed = true;
    void dispatcher.destroy();
  });
  return new Promise((resolve, reject) => {
    socket.addEventListener('open', () => resolve(one));
    socket.addEventListener('error', () => reject(new Error('no WebSocket')));
  });
}

for (const url of ['wss://api.example.com/ws/a?x=1', 'ws://plain.example.com/ws/a?x=1'])
  test(`E2: ${url}: texts go both ways, and each side has one record of it with its bytes`, async () => {
    const earlier = built.path.requests().length;
    const one = await client(url);
    one.socket.send('hello');
    await until('the echo', () => one.texts.length === 1);
    const host = seen.at(-1);
    host?.say('unasked');
    await until('the host speaks', () => one.texts.length === 2);
    assert.deepEqual(one.texts, ['echo hello', 'unasked']);
    assert.equal(host?.url, '/ws/a?x=1');
    assert.equal(host.headers['proxy-authorization'], undefined);
    assert.equal(built.path.requests().length, earlier, 'its record comes with its end');
    one.socket.close();
    await until('both ends', () => one.closed && host.ended);
    await until('the record', () => built.path.requests().length > earlier);
    const record = built.path.requests().at(-1);
    assert.equal(record?.['verdict'], 'allow');
    assert.deepEqual([record['status'], record['protocol']], [101, 'websocket']);
    // Two small frames of ours with their masks, two of the host's and the closing ones.
    assert.ok(Number(record['bytesIn']) >= 11, String(record['bytesIn']));
    assert.ok(Number(record['bytesOut']) >= 21, String(record['bytesOut']));
    const ofSidecar = () =>
      built.path.delivered().find(({ egressId }) => egressId === record['egressId']);
    await until('the other record', () => ofSidecar() !== undefined);
    const inner = ofSidecar();
    assert.deepEqual(
      ['verdict', 'status', 'rule', 'bytesIn', 'bytesOut', 'protocol'].map((name) => inner?.[name]),
      ['allow', 101, record['rule'], record['bytesOut'], record['bytesIn'], 'websocket'],
      'the sidecar counts from the side of the program',
    );
  });

test('a rule that does not name WebSocket refuses it, and one that names nothing else refuses a request', async () => {
  const [sockets, pages] = [seen.length, asked.length];
  await assert.rejects(client('wss://api.example.com/pages/a'));
  await assert.rejects(client('wss://api.example.com/other'));
  assert.equal(seen.length, sockets, 'nothing was dialled');
  const page = await raw(
    `GET /ws/a HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n`,
  );
  assert.match(page, /^HTTP\/1\.1 403 [^]*x-outrider-reason: protocol_not_allowed/i);
  const control = await raw(
    'GET /pages/a HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n',
  );
  assert.match(control, /^HTTP\/1\.1 200 [^]*a page/);
  assert.equal(asked.length, pages + 1);
});

test('the credential goes in once, and does not come back in what the host says, which is an alert', async (t) => {
  t.after(() => (answer = accept));
  answer = (request, socket) =>
    seen.push(acceptWebSocket(request, socket, `X-Echo: ${request.headers.authorization}`));
  const one = await client('wss://cred.example.com/any');
  const host = seen.at(-1);
  assert.equal(host?.headers['authorization'], `Bearer ${SECRET}`);
  assert.equal(host.headers['sec-websocket-extensions'], undefined, 'no compression');
  host.say(`you said ${SECRET}`);
  host.say(SECRET.slice(0, 3));
  await until('both', () => one.texts.length === 2);
  assert.deepEqual(one.texts, [`you said ${'*'.repeat(SECRET.length)}`, SECRET.slice(0, 3)]);
  one.socket.close();
  await until('the end', () => one.closed);
  await until('the alert', () => built.path.returnedSecrets().length === 1);
  const [alert] = built.path.returnedSecrets();
  assert.equal(alert?.['egressId'], built.path.requests().at(-1)?.['egressId']);
  assert.equal(alert?.['detail'], 'the credential came back in 2 places, covered');
});

test('E6: a fourth at once is refused, bytes and time are limited, and each end of the pair ends with the other', async () => {
  const three = [
    await client('wss://api.example.com/ws/1'),
    await client('wss://api.example.com/ws/2'),
  ];
  three.push(await client('wss://api.example.com/ws/3'));
  await assert.rejects(client('wss://api.example.com/ws/4'));
  for (const { socket } of three) socket.close();
  await until('all end', () => three.every(({ closed }) => closed));

  const small = await client('wss://api.example.com/small');
  for (let at = 0; at < 20; at += 1) small.socket.send('x'.repeat(100));
  await until('its bytes end it', () => small.closed);
  await until('the host too', () => seen.at(-1)?.ended === true);

  const short = await client('wss://api.example.com/short');
  await until('its time ends it', () => short.closed);
  await until('the host hears of it', () => seen.at(-1)?.ended === true);
});

/** Bytes to the host through TLS that ends in the door, and all that comes back. */
function raw(bytes: string, more?: { readonly after: RegExp; readonly bytes: string }) {
  return new Promise<string>((resolve) => {
    const socket = connect({ path: built.opened.door });
    socket.write('CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n');
    socket.once('data', () => {
      let text = '';
      let rest = more;
      const tls = connectTls({ socket, servername: 'api.example.com', ca: [built.opened.ca] });
      tls.on('data', (chunk: Buffer) => {
        text += chunk.toString('latin1');
        if (rest?.after.test(text)) {
          tls.write(rest.bytes, 'latin1');
          rest = undefined;
        }
      });
      tls.on('error', () => {}).once('close', () => resolve(text));
      tls.setTimeout(3_000, () => tls.destroy());
      tls.write(bytes, 'latin1');
    });
  });
}

test('E2: CONNECT is for plain HTTP only where a rule names WebSocket or gRPC, and each request there is decided', async () => {
  const tunnel = (port: number, inside: string) =>
    askDoor(
      built.opened.door,
      `CONNECT plain.example.com:${port} HTTP/1.1\r\nHost: plain.example.com:${port}\r\n\r\n`,
      inside,
    );
  assert.match(await tunnel(8080, ''), /^HTTP\/1\.1 405 [^]*connect_not_allowed/);
  const [sockets, pages] = [seen.length, asked.length];
  const said = await tunnel(
    80,
    'GET /ws/a HTTP/1.1\r\nHost: plain.example.com\r\nConnection: close\r\n\r\n',
  );
  assert.match(
    said,
    /^HTTP\/1\.1 200 Connection Established\r\n\r\nHTTP\/1\.1 403 [^]*protocol_not_allowed/,
  );
  assert.deepEqual([seen.length, asked.length], [sockets, pages]);
});

const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n';
const WISH = `GET /ws/x HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${KEY}\r\n`;
const SECOND = 'GET /pages/smuggled HTTP/1.1\r\nHost: api.example.com\r\n\r\n';

test('E8: a host that answers 200 to an upgrade ends the connection: what follows is not passed on', async () => {
  answer = (_, socket) => void socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno');
  try {
    const [sockets, pages] = [seen.length, asked.length];
    const said = await raw(WISH, { after: /no$/, bytes: SECOND });
    assert.match(said, /^HTTP\/1\.1 200 /);
    assert.equal(said.match(/HTTP\/1\.1 /g)?.length, 1, said);
    assert.deepEqual([seen.length, asked.length], [sockets, pages]);
  } finally {
    answer = accept;
  }
});

const FALSE_YES: readonly (readonly [what: string, lines: string])[] = [
  ['without an answer to the key', ''],
  ['with the answer to another key', 'Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n'],
];
for (const [what, lines] of FALSE_YES)
  test(`E8: a 101 ${what} is answered 502, and the two are never connected`, async () => {
    answer = (_, socket) => {
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${lines}\r\nleaked`,
      );
      socket.on('error', () => {});
    };
    try {
      const said = await raw(WISH);
      assert.match(said, /^HTTP\/1\.1 502 [^]*upstream_malformed/);
      assert.doesNotMatch(said, /leaked/);
    } finally {
      answer = accept;
    }
  });

const TRICKS: readonly (readonly [what: string, bytes: string, status: RegExp])[] = [
  ['bytes behind the wish', WISH + SECOND, /^HTTP\/1\.1 400 [^]*upgrade_with_body/],
  [
    'a body in the wish',
    WISH.replace('\r\n\r\n', '\r\nContent-Length: 5\r\n\r\nhello'),
    /^HTTP\/1\.1 400 [^]*upgrade_with_body/,
  ],
  [
    'half a handshake',
    WISH.replace(KEY, 'Sec-WebSocket-Version: 777\r\nSec-WebSocket-Key: x\r\n'),
    /^HTTP\/1\.1 400 [^]*upgrade_not_allowed/,
  ],
  ['two keys', WISH.replace(KEY, KEY + KEY), /^HTTP\/1\.1 400 /],
  ['a POST', WISH.replace('GET', 'POST'), /^HTTP\/1\.1 405 [^]*method_not_allowed/],
  ['another protocol', WISH.replace('Upgrade: websocket', 'Upgrade: tcp'), /^HTTP\/1\.1 400 /],
  ['the wish behind another request', SECOND + WISH, /^(?!.*101 Switching)/s],
];
for (const [what, bytes, status] of TRICKS)
  test(`E8: ${what} is refused, and no second request reaches the host`, async () => {
    const earlier = seen.length;
    const said = await raw(bytes);
    assert.match(said, status);
    assert.equal(seen.length, earlier);
    assert.ok(!asked.includes('/pages/smuggled') || what.startsWith('the wish behind'));
    const control = await raw(WISH, { after: /101 Switching/, bytes: '\x88\x80\0\0\0\0' });
    assert.match(control, /^HTTP\/1\.1 101 /, 'control: the wish alone is granted');
  });

test('E9: a policy that no longer allows it closes it, and so does the end of the exec', async () => {
  const one = await client('wss://api.example.com/ws/tightened');
  const host = seen.at(-1);
  const { opened } = built;
  const answered = await opened.ask({
    $case: 'tighten',
    value: {
      execId: opened.execId,
      policy: Buffer.from(canonicalJson(built.path.projection('tester', ['ws']))),
      policyDigest: 'e'.repeat(64),
      policyCommit: '',
      policySerial: 0n,
    },
  });
  assert.equal(answered.response?.$case, 'tightened');
  await until('it is closed', () => one.closed && host?.ended === true);
  const other = await client('wss://cred.example.com/any');
  await opened.ask({ $case: 'unbind', value: { execId: opened.execId } });
  await until('the end of the exec closes it', () => other.closed && seen.at(-1)?.ended === true);
});
