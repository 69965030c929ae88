import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  type ClientHttp2Stream,
  connect,
  constants,
  createServer,
  type Http2Server,
  type ServerHttp2Stream,
} from 'node:http2';
import { createServer as createRawServer, type Server } from 'node:net';
import { type TestContext, test } from 'node:test';
import { relayStreams, StreamReset } from './http2-relay.ts';

/** What another side sends byte for byte: Node would not send what is tried here. */
function frame(type: number, flags: number, stream: number, body = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

function literal(name: string, value: string): Buffer {
  const text = (said: string) => Buffer.concat([Buffer.from([said.length]), Buffer.from(said)]);
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

const SETTINGS = 4;
const DATA = 0;
const HEADERS = 1;
const ACK = 1;
const END = 1 + 4;

/** An upstream that answers 200, two bytes, and `trailers`. */
async function liar(
  t: TestContext,
  trailers: readonly (readonly [string, string])[],
): Promise<number> {
  const server: Server = createRawServer((socket) => {
    socket.on('error', () => {}).write(frame(SETTINGS, 0, 0));
    socket.once('data', () => {
      const block = Buffer.concat(trailers.map(([name, value]) => literal(name, value)));
      socket.write(frame(SETTINGS, ACK, 0));
      socket.write(frame(HEADERS, 4, 1, Buffer.from([0x88])));
      socket.write(frame(DATA, 0, 1, Buffer.from('hi')));
      socket.write(frame(HEADERS, END, 1, block));
    });
  });
  t.after(() => void server.close());
  return listening(server);
}

async function listening(server: Server | Http2Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return typeof address === 'object' && address ? address.port : assert.fail();
}

const STEPS = {
  asked() {},
  head: (_status: number, raw: readonly string[]) => [...raw],
  answered: (chunk: Buffer) => chunk,
  trailers: (raw: readonly string[]) => [...raw],
  complete: () => Buffer.alloc(0),
};

/** A client whose one request `serve` gets. */
async function asking(
  t: TestContext,
  serve: (stream: ServerHttp2Stream) => void,
): Promise<ClientHttp2Stream> {
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    serve(stream);
  });
  const client = connect(`http://127.0.0.1:${await listening(server)}`);
  client.on('error', () => {});
  t.after(() => {
    client.destroy();
    server.close();
  });
  return client.request({ ':path': '/', ':method': 'POST' }, { endStream: false });
}

async function relayed(t: TestContext, trailers: readonly (readonly [string, string])[]) {
  const upstream = connect(`http://127.0.0.1:${await liar(t, trailers)}`);
  upstream.on('error', () => {});
  t.after(() => upstream.destroy());
  const request = await asking(t, (stream) => {
    const answerer = upstream.request({ ':path': '/' }, { endStream: true });
    relayStreams(stream, answerer, STEPS).done.catch(() => {});
  });
  const came: { status?: unknown; code?: number | undefined } = {};
  request.on('trailers', (fields) => (came.status = fields['grpc-status']));
  request.on('error', () => {}).resume();
  request.end();
  await new Promise((resolve) => request.once('close', resolve));
  came.code = request.rstCode;
  return came;
}

test('control: trailers pass', async (t) => {
  const came = await relayed(t, [['grpc-status', '0']]);
  assert.deepEqual(came, { status: '0', code: constants.NGHTTP2_NO_ERROR });
});

const FORBIDDEN: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  ['a field of the connection', [['http2-settings', 'x']]],
  [
    'a single field twice',
    [
      ['etag', 'a'],
      ['etag', 'b'],
    ],
  ],
];
for (const [what, trailers] of FORBIDDEN)
  test(`${what} among trailers resets the stream, and ends nothing else`, async (t) => {
    const came = await relayed(t, trailers);
    assert.deepEqual(came, { code: constants.NGHTTP2_PROTOCOL_ERROR });
  });

test('an asker that has gone before the relay begins ends it, and the request at the other side', async (t) => {
  const port = await liar(t, [['grpc-status', '0']]);
  const upstream = connect(`http://127.0.0.1:${port}`);
  upstream.on('error', () => {});
  t.after(() => upstream.destroy());
  let serve: (stream: ServerHttp2Stream) => void = () => {};
  const served = new Promise<ServerHttp2Stream>((resolve) => (serve = resolve));
  const request = await asking(t, (stream) => serve(stream));
  request.on('error', () => {});
  const stream = await served;
  request.close(constants.NGHTTP2_CANCEL);
  if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
  const answerer = upstream.request({ ':path': '/', ':method': 'POST' }, { endStream: false });
  answerer.on('error', () => {});
  await assert.rejects(relayStreams(stream, answerer, STEPS).done, StreamReset);
  assert.ok(answerer.closed || answerer.destroyed);
});
