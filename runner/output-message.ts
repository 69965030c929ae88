import { ExecResponse } from '#proto';

/** The fields of ExecResponse and of Chunk in exec.proto; a test holds both to what is generated of it. */
const STREAM_FIELD = { stdout: 2, stderr: 3 } as const;
const CHUNK_FIELD = { data: 1, offset: 2 } as const;
const [VARINT, BYTES] = [0, 2];

/**
 * An ExecResponse as bytes: the same as the generated code makes, but output is copied once instead of thrice. Of a flood of output
 * that is all that this process does.
 */
export function encodeExecResponse(message: ExecResponse): Buffer {
  const { response } = message;
  if (response?.$case !== 'stdout' && response?.$case !== 'stderr')
    return Buffer.from(ExecResponse.encode(message).finish());
  const { data, offset } = response.value;
  const before = data.length === 0 ? [] : [...tag(CHUNK_FIELD.data, BYTES), ...varint(data.length)];
  const after = offset === 0n ? [] : [...tag(CHUNK_FIELD.offset, VARINT), ...varint(offset)];
  const size = before.length + data.length + after.length;
  const head = [...tag(STREAM_FIELD[response.$case], BYTES), ...varint(size), ...before];
  const bytes = Buffer.allocUnsafe(head.length + data.length + after.length);
  bytes.set(head);
  bytes.set(data, head.length);
  bytes.set(after, head.length + data.length);
  return bytes;
}

function tag(field: number, wireType: number): number[] {
  return varint((field << 3) | wireType);
}

/** https://protobuf.dev/programming-guides/encoding/#varints */
function varint(value: number | bigint): number[] {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return bytes;
}
