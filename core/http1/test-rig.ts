import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import {
  type Http1Controller,
  Http1Error,
  type Http1Handler,
  Http1Pool,
  type Http1PoolOptions,
  type Http1Request,
} from './client.ts';

/** How long anything may take that is waited for; a loaded machine is slow, and a failure says what was missing. */
const PATIENCE_MS = 60_000;

/** Waits until `holds`. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!holds()) {
    assert.ok(performance.now() < end, `in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** One connection that a client made, from the other side. */
export class ExactConnection {
  readonly socket: Socket;
  received = '';
  isClosed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => {
      this.received += bytes.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.isClosed = true;
    });
  }

  /** Says what this gives as soon as the head of a request is there. Bodies must not look like the end of one. */
  answer(give: (head: string, connection: ExactConnection) => string | undefined): void {
    let begin = 0;
    let from = 0;
    this.socket.on('data', () => {
      for (;;) {
        const end = this.received.indexOf('\r\n\r\n', from);
        if (end < 0) break;
        const text = give(this.received.slice(begin, end), this);
        begin = end + 4;
        from = begin;
        if (text !== undefined) this.send(text);
      }
      from = Math.max(begin, this.received.length - 3);
    });
  }

  send(text: string): void {
    this.socket.write(text, 'latin1');
  }

  /** Waits for the client to have said something; of the head of a request, without a pattern. */
  said(pattern: RegExp = /\r\n\r\n/): Promise<void> {
    return until(`${pattern} in ${JSON.stringify(this.received)}`, () =>
      pattern.test(this.received),
    );
  }

  closed(): Promise<void> {
    return until('the client to close', () => this.isClosed);
  }
}

/** Says exactly what it is told to. */
export class ExactServer {
  readonly connections: ExactConnection[] = [];
  readonly port: number;

  constructor(port: number) {
    this.port = port;
  }

  /** The n-th connection that is made, from 0. */
  async connection(at = 0): Promise<ExactConnection> {
    await until(`connection ${at}`, () => this.connections.length > at);
    const connection = this.connections[at];
    assert.ok(connection);
    return connection;
  }
}

/** A server that answers every head of a request with what `answer` gives; with nothing where it gives none. */
export async function exactServer(
  t: TestContext,
  answer?: (head: string, connection: ExactConnection) => string | undefined,
): Promise<ExactServer> {
  const listener = createServer({ allowHalfOpen: true });
  await new Promise<void>((resolve) => void listener.listen(0, '127.0.0.1', resolve));
  const address = listener.address();
  assert.ok(address !== null && typeof address === 'object');
  const server = new ExactServer(address.port);
  listener.on('connection', (socket) => {
    const connection = new ExactConnection(socket);
    server.connections.push(connection);
    if (answer) connection.answer(answer);
    socket.on('end', () => socket.end());
  });
  t.after(() => {
    listener.close();
    for (const { socket } of server.connections) socket.destroy();
  });
  return server;
}

/** A pool to a server; it is destroyed when the test ends. */
export function poolTo(
  t: TestContext,
  { port }: { readonly port: number },
  options: Partial<Http1PoolOptions> = {},
): Http1Pool {
  const pool = new Http1Pool({
    connect: (done) => {
      const socket = connect({ port, host: '127.0.0.1' });
      const failed = (error: Error): void => done(error, null);
      socket.once('error', failed);
      socket.once('connect', () => {
        socket.off('error', failed);
        done(null, socket);
      });
    },
    host: 'any.test',
    headersTimeoutMs: 60_000,
    bodyTimeoutMs: 60_000,
    idleMs: 60_000,
    ...options,
  });
  t.after(() => pool.destroy());
  return pool;
}

/** What a handler was told, in order. */
export class Heard implements Http1Handler {
  readonly calls: string[] = [];
  readonly heads: { status: number; headers: string[] }[] = [];
  controller: Http1Controller | undefined;
  body = '';
  trailers: string[] | undefined;
  error: Error | undefined;
  socket: Socket | undefined;
  /** Throws or pauses in the course of a call, for instance. */
  readonly #during: (call: string, controller: Http1Controller | undefined) => void;

  constructor(during: (call: string, controller: Http1Controller | undefined) => void = () => {}) {
    this.#during = during;
  }

  onRequestStart(controller: Http1Controller): void {
    this.controller = controller;
    this.#call('start');
  }

  onResponseStart(_controller: Http1Controller, status: number, headers: string[]): void {
    this.heads.push({ status, headers });
    this.#call('head');
  }

  onResponseData(_controller: Http1Controller, chunk: Buffer): void {
    this.body += chunk.toString('latin1');
    this.#call('data');
  }

  onResponseEnd(_controller: Http1Controller, trailers: string[]): void {
    this.trailers = trailers;
    this.#call('end');
  }

  onResponseError(error: Error): void {
    this.error = error;
    this.#call('error');
  }

  onRequestUpgrade(
    _controller: Http1Controller,
    status: number,
    headers: string[],
    socket: Socket,
  ): void {
    this.heads.push({ status, headers });
    this.socket = socket;
    this.#call('upgrade');
  }

  #call(call: string): void {
    this.calls.push(call);
    this.#during(call, this.controller);
  }

  /** Waits for the last call. */
  async over(): Promise<this> {
    await until(`the end of a request: ${this.calls.join(' ')}`, () => this.isOver);
    return this;
  }

  get isOver(): boolean {
    return /end|error|upgrade/.test(this.calls.join(' '));
  }

  /** How it ended: the status, or the code of what went wrong. */
  get outcome(): number | string {
    if (this.error) return this.error instanceof Http1Error ? this.error.code : this.error.message;
    return this.heads.at(-1)?.status ?? 'nothing';
  }
}

/** Sends a request; what is not said is a GET of `/`. */
export function ask(
  pool: Http1Pool,
  request: Partial<Http1Request> = {},
  during?: (call: string, controller: Http1Controller | undefined) => void,
): Heard {
  const heard = new Heard(during);
  pool.dispatch({ method: 'GET', path: '/', headers: [], ...request }, heard);
  return heard;
}
