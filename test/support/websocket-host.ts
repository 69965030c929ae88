import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';

/** What a WebSocket server was told, and how its connections ended. */
export interface SeenSocket {
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly texts: string[];
  ended: boolean;
  /** Says something unasked. */
  readonly say: (text: string) => void;
}

const TEXT = 1;
const CLOSE = 8;

/** Takes an upgrade as RFC 6455, 4.2.2 has it, with more lines in its head, and echoes every text; short ones only, which is all that the tests say. */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  ...fields: readonly string[]
): SeenSocket {
  const key = String(request.headers['sec-websocket-key']);
  const accept = createHash('sha1')
    .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64');
  const head = [
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${accept}`,
    ...fields,
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  const seen: SeenSocket = {
    url: request.url ?? '',
    headers: request.headers,
    texts: [],
    ended: false,
    say: (text) => void socket.write(frame(TEXT, Buffer.from(text))),
  };
  let bytes = Buffer.alloc(0);
  socket
    .on('error', () => {})
    .once('close', () => {
      seen.ended = true;
    });
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    for (;;) {
      const read = readFrame(bytes);
      if (!read) return;
      bytes = bytes.subarray(read.length);
      if (read.opcode === TEXT) {
        seen.texts.push(read.payload.toString());
        socket.write(frame(TEXT, Buffer.from(`echo ${read.payload.toString()}`)));
      } else if (read.opcode === CLOSE) socket.end(frame(CLOSE, read.payload));
    }
  });
  return seen;
}

/** An unmasked frame, as servers send it. */
function frame(opcode: number, payload: Buffer): Buffer {
  const head =
    payload.length < 126
      ? Buffer.from([0x80 | opcode, payload.length])
      : Buffer.from([0x80 | opcode, 126, payload.length >> 8, payload.length & 0xff]);
  return Buffer.concat([head, payload]);
}

/** A masked frame, as clients send it. */
function readFrame(bytes: Buffer): { opcode: number; payload: Buffer; length: number } | undefined {
  if (bytes.length < 2) return undefined;
  const short = (bytes[1] ?? 0) & 0x7f;
  const head = short === 126 ? 4 : 2;
  const size = short === 126 ? bytes.readUInt16BE(2) : short;
  if (bytes.length < head + 4 + size) return undefined;
  const mask = bytes.subarray(head, head + 4);
  const payload = Buffer.from(bytes.subarray(head + 4, head + 4 + size));
  for (const [at, byte] of payload.entries()) payload[at] = byte ^ (mask[at % 4] ?? 0);
  return { opcode: (bytes[0] ?? 0) & 0x0f, payload, length: head + 4 + size };
}
