import { randomBytes } from 'node:crypto';

/** What a TLS client says first (RFC 8446, 4.1.2). */
export interface HelloOptions {
  /** Null: no server name. */
  readonly serverName: string | null;
  /** Adds an encrypted inner hello (RFC 9849), as a client with a key for it does. */
  readonly ech: boolean;
  /** Bytes of padding (RFC 7685), split over as many extensions as needed. */
  readonly padding: number;
  /** Bytes of the hello in one record; all that fits unless told. */
  readonly recordBytes?: number | undefined;
}

const EXTENSION = {
  serverName: 0,
  groups: 10,
  signatures: 13,
  padding: 21,
  versions: 43,
  keyShare: 51,
  ech: 0xfe0d,
};
const RECORD_MAX = 2 ** 14;

/** A hello that a server of TLS 1.3 answers. */
export function clientHello(options: HelloOptions): Buffer {
  const { serverName, ech, padding, recordBytes = RECORD_MAX } = options;
  const name = Buffer.from(serverName ?? '', 'latin1');
  const extensions = [
    ...(serverName === null
      ? []
      : [
          extension(
            EXTENSION.serverName,
            vector(2, Buffer.concat([Buffer.from([0]), vector(2, name)])),
          ),
        ]),
    extension(EXTENSION.groups, vector(2, words(0x001d))),
    extension(EXTENSION.signatures, vector(2, words(0x0403, 0x0804, 0x0401, 0x0503, 0x0805))),
    extension(EXTENSION.versions, vector(1, words(0x0304))),
    extension(
      EXTENSION.keyShare,
      vector(2, Buffer.concat([words(0x001d), vector(2, randomBytes(32))])),
    ),
    ...(ech ? [extension(EXTENSION.ech, encryptedHello())] : []),
    ...(padding > 0 ? [extension(EXTENSION.padding, Buffer.alloc(padding))] : []),
  ];
  const body = Buffer.concat([
    words(0x0303),
    randomBytes(32),
    vector(1, randomBytes(32)),
    vector(2, words(0x1301, 0x1302)),
    vector(1, Buffer.from([0])),
    vector(2, Buffer.concat(extensions)),
  ]);
  return records(Buffer.concat([Buffer.from([1]), vector(3, body)]), recordBytes);
}

/** Type outer; KDF, AEAD, key, a public key and a payload: 239 bytes as browsers send them. */
function encryptedHello(): Buffer {
  const suite = Buffer.concat([Buffer.from([0]), words(1, 1), Buffer.from([7])]);
  return Buffer.concat([suite, vector(2, randomBytes(32)), vector(2, randomBytes(208))]);
}

function records(message: Buffer, size: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < message.length; at += size)
    parts.push(Buffer.from([22, 3, 1]), vector(2, message.subarray(at, at + size)));
  return Buffer.concat(parts);
}

function extension(type: number, body: Buffer): Buffer {
  return Buffer.concat([words(type), vector(2, body)]);
}

function vector(lengthBytes: number, body: Buffer): Buffer {
  const length = Buffer.alloc(lengthBytes);
  length.writeUIntBE(body.length, 0, lengthBytes);
  return Buffer.concat([length, body]);
}

function words(...values: number[]): Buffer {
  return Buffer.from(values.flatMap((value) => [value >> 8, value & 0xff]));
}
