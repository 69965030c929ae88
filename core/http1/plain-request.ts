import { EventEmitter } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { HttpRequest } from '../http-exchange.ts';
import type { PlainFields, PlainHead } from './plain-head.ts';

const NOTHING = Buffer.alloc(0);

/**
 * A request that has been read as a whole. Its body is in `whole`; whoever listens for `data` gets it, in one piece, and its `end`.
 */
export class PlainRequest extends EventEmitter implements HttpRequest {
  readonly method: string;
  readonly url: string;
  readonly httpVersion = '1.1';
  readonly rawHeaders: readonly string[];
  readonly rawTrailers: string[] = [];
  readonly complete = true;
  readonly whole: Buffer;
  readonly socket: Socket;
  destroyed = false;
  readonly #fields: PlainFields;
  #flows = false;
  #isOver = false;

  constructor({ method, target, fields }: PlainHead, body: Buffer, socket: Socket) {
    super();
    this.method = method;
    this.url = target;
    this.rawHeaders = fields.rawHeaders;
    this.#fields = fields;
    this.whole = body.length === 0 ? NOTHING : body;
    this.socket = socket;
  }

  get headers(): Readonly<IncomingHttpHeaders> {
    return this.#fields.headers;
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
