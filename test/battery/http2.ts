/** What a client says first (RFC 9113, 3.4). */
export function http2Preface(): Buffer {
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  return Buffer.concat([preface, frame(FRAME.settings, 0, 0, Buffer.alloc(0))]);
}

/** One request without a body, whose fields are all literal. */
export function http2Request(fields: readonly (readonly [string, string])[], stream = 1): Buffer {
  const literals = fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]);
  const END_OF_STREAM_AND_HEADERS = 5;
  return frame(FRAME.headers, END_OF_STREAM_AND_HEADERS, stream, Buffer.concat(literals));
}

/** What came back on the stream: its status, its body, or the error that it was reset with. */
export interface Http2Answer {
  readonly status: number | undefined;
  readonly body: string;
  readonly reset: number | undefined;
}

const FRAME = { data: 0, headers: 1, reset: 3, settings: 4 } as const;

/** Reads the frames of an answer, as far as they are whole. */
export function readHttp2(bytes: Buffer): Http2Answer {
  let status: number | undefined;
  let reset: number | undefined;
  const body: Buffer[] = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const length = bytes.readUIntBE(at, 3);
    const payload = bytes.subarray(at + 9, at + 9 + length);
    const type = bytes[at + 3];
    if (type === FRAME.headers) status ??= statusOf(payload);
    if (type === FRAME.data) body.push(payload);
    if (type === FRAME.reset && payload.length === 4) reset = payload.readUInt32BE(0);
    at += 9 + length;
  }
  return { status, body: Buffer.concat(body).toString('utf8'), reset };
}

/** RFC 7541, appendix A: the statuses that are one byte. */
const INDEXED: Readonly<Record<number, number>> = {
  0x88: 200,
  0x89: 204,
  0x8a: 206,
  0x8b: 304,
  0x8c: 400,
  0x8d: 404,
  0x8e: 500,
};

/** `:status` stands first; another one is a literal behind the name's index, in digits or in their Huffman code (appendix B). */
function statusOf(block: Buffer): number | undefined {
  // A change of the table's size may go before it.
  const start = block.findIndex((byte) => (byte & 0xe0) !== 0x20);
  const [first = 0, length = 0] = block.subarray(start);
  if (INDEXED[first] !== undefined) return INDEXED[first];
  const value = block.subarray(start + 2, start + 2 + (length & 0x7f));
  return Number(length & 0x80 ? huffmanDigits(value) : value.toString('latin1'));
}

function huffmanDigits(bytes: Buffer): string {
  let bits = Array.from(bytes, (byte) => byte.toString(2).padStart(8, '0')).join('');
  let digits = '';
  for (;;) {
    const short = /^000(00|01|10)/.exec(bits);
    const long = /^(?:011001|011010|011011|011100|011101|011110|011111)/.exec(bits);
    if (short) digits += Number.parseInt(short[0], 2);
    else if (long) digits += Number.parseInt(long[0], 2) - 0x16;
    else return digits;
    bits = bits.slice((short ?? long)?.[0].length);
  }
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  // A length of seven bits, and what is above it in groups of seven (RFC 7541, 5.1).
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const rest: number[] = [];
  for (let left = bytes.length - 127; ; left = Math.floor(left / 128)) {
    rest.push(left >= 128 ? (left % 128) + 128 : left);
    if (left < 128) break;
  }
  return Buffer.concat([Buffer.from([127, ...rest]), bytes]);
}

/** One frame (RFC 9113, 4.1). */
export function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
