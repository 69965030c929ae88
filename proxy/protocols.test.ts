import assert from 'node:assert/strict';
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startDns,
  startMesh,
} from './testing.ts';

// What a sidecar that does not keep to the rules gets from the proxy: it decides for itself.

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const HANDSHAKE = `Sec-WebSocket-Key: ${KEY}\r\nSec-WebSocket-Version: 13\r\n`;

/** A proxy whose name server knows no host: what gets as far as a look-up fails there. */
async function built(t: TestContext): Promise<{ mesh: Mesh; asked: string[] }> {
  const dns = await startDns(t, {});
  const mesh = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        {
          id: 'ws',
          hosts: ['ws.example'],
          methods: ['GET'],
          paths: 'any',
          protocols: ['websocket'],
        },
        { id: 'pages', hosts: ['pages.example'], methods: ['GET'], paths: 'any' },
        {
          id: 'grpc',
          hosts: ['api.example'],
          methods: ['POST'],
          paths: 'any',
          protocols: ['grpc'],
        },
        { id: 'metrics', datasource: 'http/pages' },
      ]),
      datasource('http', 'pages', 'http://127.0.0.1:9'),
    ],
    config: { dns: { servers: [dns.address] } },
  });
  return { mesh, asked: dns.asked };
}

const pathOf = ({ addresses }: Mesh): string =>
  addresses.listen.kind === 'unix' ? addresses.listen.path : '';

/** Sends a request by hand, and resolves to what came back until the connection ended. */
function raw(mesh: Mesh, head: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path: pathOf(mesh) });
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.on('error', () => {}).once('close', () => resolve(text));
    socket.write(head);
  });
}

const wish = (name: string, token: string, handshake = HANDSHAKE): string =>
  `GET https://${name}.example/socket HTTP/1.1\r\nHost: ${name}.example\r\nProxy-Authorization: Bearer ${token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${handshake}\r\n`;

test('control: a WebSocket that a rule names is looked up', async (t) => {
  const { mesh, asked } = await built(t);
  const said = await raw(mesh, wish('ws', await mesh.token()));
  assert.match(said, /^HTTP\/1\.1 502 [^]*dns_failed/);
  assert.ok(asked.length > 0);
});

const REFUSED: readonly (readonly [
  what: string,
  head: (token: string) => string,
  answer: RegExp,
])[] = [
  [
    'a rule without it',
    (token) => wish('pages', token),
    /^HTTP\/1\.1 403 [^]*protocol_not_allowed/,
  ],
  ['no token', () => wish('ws', 'x'), /^HTTP\/1\.1 401 /],
  ['half a handshake', (token) => wish('ws', token, ''), /^HTTP\/1\.1 400 [^]*upgrade_not_allowed/],
  [
    'bytes behind it',
    (token) =>
      `${wish('ws', token)}GET https://pages.example/ HTTP/1.1\r\nHost: pages.example\r\n\r\n`,
    /^HTTP\/1\.1 400 [^]*upgrade_with_body/,
  ],
];
for (const [what, head, answer] of REFUSED)
  test(`a WebSocket with ${what} is refused, recorded, and nothing is dialled`, async (t) => {
    const { mesh, asked } = await built(t);
    const said = await raw(mesh, head(await mesh.token()));
    assert.match(said, answer);
    assert.equal(said.match(/HTTP\/1\.1 /g)?.length, 1);
    assert.deepEqual(asked, []);
    assert.equal(mesh.records().filter(({ event }) => event === 'request').length, 1);
  });

const TAKING_OVER: readonly (readonly [what: string, (token: string) => string])[] = [
  ['a WebSocket', (token) => wish('ws', token)],
  [
    'a tunnel',
    (token) =>
      `CONNECT pages.example:443 HTTP/1.1\r\nHost: pages.example:443\r\nProxy-Authorization: Bearer ${token}\r\n\r\n`,
  ],
];
for (const [what, takingOver] of TAKING_OVER)
  test(`${what} behind a request that is not answered yet ends the connection, and nothing else`, async (t) => {
    const { mesh } = await built(t);
    const token = await mesh.token();
    const first = `GET https://pages.example/ HTTP/1.1\r\nHost: pages.example\r\nProxy-Authorization: Bearer ${token}\r\n\r\n`;
    const said = await raw(mesh, `${first}${takingOver(token)}`);
    assert.doesNotMatch(said, /^HTTP\/1\.1 (?:101|200)/m);
    assert.ok(mesh.records().some(({ reason }) => reason === 'pipeline_limit'));
    assert.match(await raw(mesh, wish('ws', token)), /^HTTP\/1\.1 502 /, 'control: it goes on');
  });

const CALLS: readonly (readonly [
  what: string,
  authority: string,
  token: boolean,
  type: string,
  grpcStatus: string | undefined,
  reason: string,
])[] = [
  ['no token', 'api.example', false, 'application/grpc', '16', 'jwt_missing'],
  ['no rule', 'other.example', true, 'application/grpc', '7', 'host_not_allowed'],
  [
    'a type that is not gRPC',
    'api.example',
    true,
    'application/json',
    undefined,
    'protocol_not_allowed',
  ],
  [
    'a datasource',
    'http-pages.outrider.internal',
    true,
    'application/grpc',
    '7',
    'protocol_not_allowed',
  ],
];
for (const [what, authority, hasToken, type, grpcStatus, reason] of CALLS)
  test(`a call over HTTP/2 with ${what} is refused with ${reason}, and recorded`, async (t) => {
    const { mesh } = await built(t);
    const token = await mesh.token();
    const session = connectHttp2('http://proxy', {
      createConnection: () => connect({ path: pathOf(mesh) }),
    });
    t.after(() => session.destroy());
    const stream = session.request({
      ':method': 'POST',
      ':scheme': authority.endsWith('internal') ? 'http' : 'https',
      ':authority': authority,
      ':path': '/test.Echo/Unary',
      'content-type': type,
      ...(hasToken ? { 'proxy-authorization': `Bearer ${token}` } : {}),
    });
    stream.end();
    const head = await new Promise<IncomingHttpHeaders>((resolve, reject) =>
      stream.once('response', resolve).once('error', reject),
    );
    assert.equal(head['grpc-status'], grpcStatus);
    assert.equal(head['x-outrider-reason'], reason);
    assert.equal(mesh.records().filter(({ event }) => event === 'request').length, 1);
  });
