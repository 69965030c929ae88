import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Stream, connect } from 'node:http2';
import { type AddressInfo, createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { resetStream } from './http2-reset.ts';

const PREFACE_BYTES = 24;
const [DATA, RST_STREAM, SETTINGS] = [0, 3, 4];
const END_STREAM = 1;

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly payload: Buffer;
}

/** The frames that a server gets of a request with half a body whose client then leaves by `leave`. */
async function framesOf(
  t: TestContext,
  leave: (stream: ClientHttp2Stream) => void,
): Promise<Frame[]> {
  const frames: Frame[] = [];
  let bytes = Buffer.alloc(0);
  let preface = PREFACE_BYTES;
  const server = createServer((socket) => {
    socket.write(Buffer.from([0, 0, 0, SETTINGS ?? 0, 0, 0, 0, 0, 0]));
    socket
      .on('error', () => {})
      .on('data', (chunk) => {
        bytes = Buffer.concat([bytes, chunk]);
        if (preface > 0 && bytes.length >= preface) {
          bytes = bytes.subarray(preface);
          preface = 0;
        }
        if (preface > 0) return;
        while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
          const end = 9 + bytes.readUIntBE(0, 3);
          const [type = 0, flags = 0] = bytes.subarray(3, 5);
          frames.push({ type, flags, payload: bytes.subarray(9, end) });
          bytes = bytes.subarray(end);
        }
      });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address: AddressInfo = Object(server.address());
  const session = connect(`http://127.0.0.1:${address.port}`);
  session.on('error', () => {});
  t.after(() => {
    session.destroy();
    server.close();
  });
  const stream = session.request({ ':method': 'POST' }, { endStream: false });
  stream.on('error', () => {});
  await new Promise<void>((resolve) => stream.write('half', () => resolve()));
  leave(stream);
  while (!frames.some(({ type }) => type === RST_STREAM))
    await new Promise((resolve) => setTimeout(resolve, 5));
  return frames;
}

const endedBy = (frames: readonly Frame[]): boolean =>
  frames.some(({ type, flags }) => type === DATA && (flags & END_STREAM) !== 0);

test('E8: a body that is reset is not ended first, so nobody takes half of it for the whole', async (t) => {
  const frames = await framesOf(t, (stream) => resetStream(stream, 8));
  assert.equal(endedBy(frames), false);
  assert.equal(frames.at(-1)?.payload.readUInt32BE(0), 8);
});

test('control: the close of Node ends it first', async (t) => {
  assert.equal(endedBy(await framesOf(t, (stream) => stream.close(8))), true);
});
