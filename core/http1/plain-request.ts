import { EventEmitter } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { HttpRequest } from '../http-exchange.ts';
import type { PlainHead } from './plain-head.ts';

/** Of these Node keeps the first where there are several. */
const FIRST: ReadonlySet<string> = new Set([
  'age',
  'authorization',
  'content-length',
  'content-type',
  'etag',
  'expires',
  'from',
  'host',
  'if-modified-since',
  'if-unmodified-since',
  'last-modified',
  'location',
  'max-forwards',
  'proxy-authorization',
  'referer',
  'retry-after',
  'server',
  'user-agent',
]);
const NOTHING = Buffer.alloc(0);

/**
 * A request that has been read as a whole. Its body is in `whole`; whoever listens for `data` gets it, in one piece, and its `end`.
 */
export class PlainRequest extends EventEmitter implements HttpRequest {
  readonly method: string;
  readonly url: string;
  readonly httpVersion = '1.1';
  readonly rawHeaders: string[];
  readonly rawTrailers: string[] = [];
  readonly complete = true;
  readonly whole: Buffer;
  readonly socket: Socket;
  destroyed = false;
  #headers: IncomingHttpHeaders | undefined;
  #flows = false;
  #isOver = false;

  constructor({ method, target, rawHeaders }: PlainHead, body: Buffer, socket: Socket) {
    super();
    this.method = method;
    this.url = target;
    this.rawHeaders = rawHeaders;
    this.whole = body.length === 0 ? NOTHING : body;
    this.socket = socket;
  }

  get headers(): IncomingHttpHeaders {
    return (this.#headers ??= joined(this.rawHeaders));
  }

  override on(event: string, listener: Parameters<EventEmitter['on']>[1]): this {
    super.on(event, listener);
    if (event === 'data') this.resume();
    return this;
  }

  resume(): this {
    if (!this.#flows) {
      this.#flows = true;
      process.nextTick(flow, this);
    }
    return this;
  }

  pipe<To extends NodeJS.WritableStream>(to: To): To {
    this.on('data', (chunk: Buffer) => void to.write(chunk)).on('end', () => void to.end());
    return to;
  }

  unpipe(): this {
    return this;
  }

  /** Cuts the connection, until the answer is out. */
  destroy(): this {
    if (this.destroyed) return this;
    this.destroyed = true;
    if (!this.#isOver) this.socket.destroy();
    return this;
  }

  /** Its answer is out, or never will be: the connection is no longer its own to cut. */
  closed(): void {
    this.#isOver = true;
    this.emit('close');
  }

  // biome-ignore lint/suspicious/useAwait: it is what Node's has
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    if (this.whole.length > 0) yield this.whole;
  }
}

function flow(request: PlainRequest): void {
  if (request.destroyed) return;
  if (request.whole.length > 0) request.emit('data', request.whole);
  if (!request.destroyed) request.emit('end');
}

/** As `IncomingMessage.headers` has them; so `__proto__` is none. */
function joined(rawHeaders: readonly string[]): IncomingHttpHeaders {
  const headers: Record<string, string | string[]> = {};
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] ?? '').toLowerCase();
    const value = rawHeaders[at + 1] ?? '';
    const before = headers[name];
    if (name === 'set-cookie') {
      if (Array.isArray(before)) before.push(value);
      else headers[name] = [value];
    } else if (typeof before !== 'string') headers[name] = value;
    else if (!FIRST.has(name))
      headers[name] = `${before}${name === 'cookie' ? '; ' : ', '}${value}`;
  }
  return headers;
}
