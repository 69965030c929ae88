import type { Readable } from 'node:stream';

/**
 * Frames of the control socket between runner and agent: u32 length of what follows, u8 type, u32 id, body; big-endian.
 * The id is an exec's or a request's. Bodies of control frames are JSON, bodies of data frames raw bytes.
 */
export const FRAME = {
  // agent → runner
  HELLO: 0x01,
  READY: 0x02,
  STDOUT: 0x04,
  STDERR: 0x05,
  END: 0x06,
  REPLY: 0x07,
  DATA: 0x08,
  FATAL: 0x09,
  TAKEN: 0x0c,
  /** So many bytes of a stream were counted and dropped before what comes of it next: u8 4 or 5, u64. */
  SKIPPED: 0x0d,
  // runner → agent
  START: 0x41,
  STDIN: 0x42,
  STDIN_CLOSE: 0x43,
  SIGNAL: 0x44,
  CREDIT: 0x45,
  REQUEST: 0x46,
  DATA_IN: 0x47,
  /** Have an interpreter of this profile waiting; before the first and between two programs. */
  PREPARE: 0x48,
  /** The sidecar is bound: the program's connections may pass. */
  DOOR: 0x49,
  /** Every process of the box but the agent, at once. */
  KILL: 0x4a,
  SHUTDOWN: 0x4f,
} as const;

export interface Frame {
  readonly type: number;
  readonly id: number;
  readonly body: Buffer;
}

/** What a frame may hold; the agent closes the connection on a larger one, and so do we. */
export const FRAME_MAX_BYTES = 8 * 2 ** 20;
const HEADER_BYTES = 9;

export function encodeFrame(type: number, id: number, body: Uint8Array | string = ''): Buffer {
  const content = typeof body === 'string' ? Buffer.from(body, 'utf8') : body;
  const frame = Buffer.allocUnsafe(HEADER_BYTES + content.length);
  frame.writeUInt32BE(content.length + 5, 0);
  frame.writeUInt8(type, 4);
  frame.writeUInt32BE(id, 5);
  frame.set(content, HEADER_BYTES);
  return frame;
}

/**
 * The frames of a stream, in order. Throws on a frame that breaks the format: the peer is then not to be believed any more.
 * What it holds back is bounded by one frame.
 */
export async function* readFrames(stream: Readable): AsyncGenerator<Frame> {
  let pending: Buffer[] = [];
  let size = 0;
  /** How much there must be before the next frame is whole. */
  let wanted = HEADER_BYTES;
  for await (const chunk of stream) {
    if (!Buffer.isBuffer(chunk)) throw new Error('the control stream must carry bytes');
    pending.push(chunk);
    size += chunk.length;
    if (size < wanted) continue; // joined once when it is whole, not again with every piece
    let bytes: Buffer = pending.length === 1 ? chunk : Buffer.concat(pending);
    for (wanted = neededBy(bytes); bytes.length >= wanted; wanted = neededBy(bytes)) {
      yield {
        type: bytes.readUInt8(4),
        id: bytes.readUInt32BE(5),
        body: bytes.subarray(HEADER_BYTES, wanted),
      };
      bytes = bytes.subarray(wanted);
    }
    pending = bytes.length === 0 ? [] : [bytes];
    size = bytes.length;
  }
  if (size > 0) throw new Error('the control stream ended inside a frame');
}

/** The length of the frame that these bytes begin with, or of what tells it. */
function neededBy(bytes: Buffer): number {
  if (bytes.length < 4) return HEADER_BYTES;
  const length = bytes.readUInt32BE(0);
  if (length < 5 || length > FRAME_MAX_BYTES) throw new Error(`a frame of ${length} bytes`);
  return 4 + length;
}
