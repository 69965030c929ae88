import type { Socket } from 'node:net';
import { afterTime } from '#core/http1/after-time';
import { Refused } from './refusal.ts';

/** The first byte that a SOCKS5 client sends (RFC 1928, 3). No request line begins with it. */
export const SOCKS_VERSION = 5;

/** RFC 1928, 6. */
export const SOCKS_REPLY = {
  succeeded: 0,
  failure: 1,
  notAllowed: 2,
  commandNotSupported: 7,
  addressNotSupported: 8,
} as const;

const NO_AUTHENTICATION = 0;
const NO_METHOD = 0xff;
const CONNECT = 1;
const ADDRESS = { ipv4: 1, name: 3, ipv6: 4 } as const;
/** 255 methods, or a name of 255 bytes. */
const MESSAGE_MAX = 262;

/** What a program asks for; `rest` is what it sent ahead. */
export interface SocksRequest {
  /** `host:port` as its bytes stand, one character each: nothing is repaired. */
  readonly authority: string;
  readonly rest: Buffer;
}

/**
 * Reads greeting and request of a SOCKS5 client, offering no authentication, and answers the greeting. The answer to the request is
 * the caller's.
 * @throws {SocksRefused} request_line_malformed, control_char, host_malformed, method_not_allowed, headers_timeout, client_gone
 */
export async function readSocks(socket: Socket, timeoutMs: number): Promise<SocksRequest> {
  const reader = new Reader(socket, timeoutMs);
  try {
    const methods = await reader.message((bytes) => (bytes.length < 2 ? 2 : 2 + (bytes[1] ?? 0)));
    if (!methods.subarray(2).includes(NO_AUTHENTICATION)) {
      socket.write(Buffer.from([SOCKS_VERSION, NO_METHOD]));
      throw new SocksRefused('request_line_malformed', undefined);
    }
    socket.write(Buffer.from([SOCKS_VERSION, NO_AUTHENTICATION]));
    const request = await reader.message(requestLength);
    const [version, command, reserved] = request;
    if (version !== SOCKS_VERSION || reserved !== 0)
      throw new SocksRefused('request_line_malformed', SOCKS_REPLY.failure);
    if (command !== CONNECT)
      throw new SocksRefused('method_not_allowed', SOCKS_REPLY.commandNotSupported);
    return { authority: authorityOf(request), rest: reader.rest() };
  } finally {
    reader.stop();
  }
}

/** The answer to a request; the address in it is nobody's business. */
export function socksReply(reply: number): Buffer {
  return Buffer.from([SOCKS_VERSION, reply, 0, ADDRESS.ipv4, 0, 0, 0, 0, 0, 0]);
}

/** A refusal with the reply that says it; undefined where all has been said. */
export class SocksRefused extends Refused {
  readonly reply: number | undefined;

  constructor(reason: ConstructorParameters<typeof Refused>[0], reply: number | undefined) {
    super(reason);
    this.reply = reply;
  }
}

/** How long the message is, as far as that can be told from what is there: never more than that. */
function requestLength(bytes: Buffer): number {
  if (bytes.length < 5) return 5;
  const [, , , type, length = 0] = bytes;
  if (type === ADDRESS.ipv4) return 10;
  if (type === ADDRESS.ipv6) return 22;
  if (type === ADDRESS.name) return 7 + length;
  throw new SocksRefused('request_line_malformed', SOCKS_REPLY.addressNotSupported);
}

function authorityOf(request: Buffer): string {
  const port = request.readUInt16BE(request.length - 2);
  const address = request.subarray(4, -2);
  if (request[3] === ADDRESS.name) return `${nameOf(address)}:${port}`;
  return request[3] === ADDRESS.ipv4
    ? `${address.join('.')}:${port}`
    : `[${groupsOf(address)}]:${port}`;
}

/** All 16 bytes as they stand: an address that stands for another one is not written as that one. */
function groupsOf(address: Buffer): string {
  return (address.toString('hex').match(/.{4}/g) ?? []).join(':');
}

/** A name that would be more than a name in `host:port` is refused here; all else is for whoever reads that. */
function nameOf(address: Buffer): string {
  const name = address.toString('latin1', 1);
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  if (/[\x00-\x20\x7f]/.test(name)) throw new SocksRefused('control_char', SOCKS_REPLY.notAllowed);
  if (/[:/?#@[\]]/.test(name)) throw new SocksRefused('host_malformed', SOCKS_REPLY.notAllowed);
  return name;
}

/** Collects bytes until a message is whole. */
class Reader {
  readonly #socket: Socket;
  readonly #inTime: () => void;
  #bytes = Buffer.alloc(0);
  #look: () => void = () => {};
  #fail: (refused: Refused) => void = () => {};
  readonly #onData = (chunk: Buffer): void => {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    this.#look();
  };
  readonly #onGone = (): void => this.#fail(new SocksRefused('client_gone', undefined));

  constructor(socket: Socket, timeoutMs: number) {
    this.#socket = socket;
    this.#inTime = afterTime(timeoutMs, () =>
      this.#fail(new SocksRefused('headers_timeout', SOCKS_REPLY.failure)),
    );
    socket.on('data', this.#onData).once('end', this.#onGone).once('close', this.#onGone);
    socket.resume();
  }

  /** @throws {SocksRefused} */
  message(lengthOf: (bytes: Buffer) => number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      this.#look = () => {
        try {
          const length = lengthOf(this.#bytes);
          if (length > MESSAGE_MAX) throw new SocksRefused('request_line_malformed', undefined);
          if (this.#bytes.length < length) return;
          this.#look = () => {};
          const message = this.#bytes.subarray(0, length);
          this.#bytes = this.#bytes.subarray(length);
          resolve(message);
        } catch (error) {
          reject(
            error instanceof Refused
              ? error
              : new SocksRefused('request_line_malformed', undefined),
          );
        }
      };
      this.#look();
    });
  }

  rest(): Buffer {
    return this.#bytes;
  }

  stop(): void {
    this.#inTime();
    this.#socket.pause();
    this.#socket.off('data', this.#onData).off('end', this.#onGone).off('close', this.#onGone);
  }
}
