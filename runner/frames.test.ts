import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { encodeFrame, FRAME, FRAME_MAX_BYTES, type Frame, readFrames } from './frames.ts';

async function read(chunks: Iterable<Buffer>): Promise<Frame[]> {
  const frames: Frame[] = [];
  for await (const frame of readFrames(Readable.from(chunks, { objectMode: true })))
    frames.push({ ...frame, body: Buffer.from(frame.body) });
  return frames;
}

const SENT: readonly Frame[] = [
  { type: FRAME.HELLO, id: 0, body: Buffer.from('{"version":1}') },
  { type: FRAME.STDIN_CLOSE, id: 0xffff_ffff, body: Buffer.alloc(0) },
  { type: FRAME.STDOUT, id: 7, body: Buffer.from([0, 0, 0, 5, 1, 0xff, 0xfe]) },
  { type: FRAME.END, id: 7, body: Buffer.from('{"exit":0,"what":"é"}') },
];
const bytes = Buffer.concat(SENT.map(({ type, id, body }) => encodeFrame(type, id, body)));

test('a frame is the length of what follows, its type, its id and its body, big-endian', () => {
  assert.equal(encodeFrame(0x41, 258, 'é').toString('hex'), '000000074100000102c3a9');
});

test('what was written is read back, however the stream is split', async () => {
  for (let size = 1; size <= bytes.length; size++) {
    const chunks: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
    assert.deepEqual(await read(chunks), SENT, `in pieces of ${size}`);
  }
  for (let at = 0; at <= bytes.length; at++)
    assert.deepEqual(await read([bytes.subarray(0, at), bytes.subarray(at)]), SENT, `cut at ${at}`);
});

test('a stream that ends inside a frame is refused, one that ends between frames is not', async () => {
  const ends = new Set<number>([0]);
  for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt32BE(at))
    ends.add(at + 4 + bytes.readUInt32BE(at));
  for (let length = 0; length <= bytes.length; length++) {
    const reading = read([bytes.subarray(0, length)]);
    if (ends.has(length)) await assert.doesNotReject(reading);
    else await assert.rejects(reading, /ended inside a frame/, `at ${length}`);
  }
});

test('a frame above the bound, or too short to be one, is refused before it is waited for', async () => {
  const header = (length: number) => {
    const buffer = Buffer.alloc(9);
    buffer.writeUInt32BE(length);
    return buffer;
  };
  for (const length of [0, 4, FRAME_MAX_BYTES + 1, 0xffff_ffff])
    await assert.rejects(read([header(length)]), /a frame of \d+ bytes/);
});

test('control: the largest frame passes', async () => {
  const body = Buffer.alloc(FRAME_MAX_BYTES - 5, 'x');
  const [frame] = await read([encodeFrame(FRAME.STDOUT, 1, body)]);
  assert.equal(frame?.body.length, body.length);
});

test('no two kinds of frame have one number', () => {
  const numbers = Object.values(FRAME);
  assert.equal(new Set(numbers).size, numbers.length);
});
