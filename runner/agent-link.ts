import type { Socket } from 'node:net';
import { OutriderError } from '#core/errors';
import { encodeFrame, FRAME, type Frame, readFrames } from './frames.ts';

/** What a payload is told at its start; `argv` runs a command, `code` a Python program in the warm interpreter. */
export interface StartOrder {
  readonly code?: string;
  readonly name?: string;
  readonly args?: readonly string[];
  readonly argv?: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly stdin: boolean;
  readonly rlimits: Readonly<Record<string, number>>;
}

/** How the main process of an exec ended, as the agent saw it. */
export interface AgentEnd {
  readonly exit: number | undefined;
  readonly signal: number | undefined;
  readonly cpuMs: number;
  readonly maxRssBytes: number;
  readonly exception: { type: string; message: string; traceback: string } | undefined;
  readonly artefacts: readonly { path: string; size: number }[];
}

export interface ExecSink {
  started(): void;
  output(stream: 'stdout' | 'stderr', data: Buffer): void;
  end(end: AgentEnd): void;
  /** The agent could not start it, or is gone. */
  lost(message: string): void;
}

export interface AgentFile {
  readonly path: string;
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  readonly modifiedAtMs: number;
  readonly link: string;
}

/** How much of stdin may be under way before the agent has taken any. */
const STDIN_WINDOW = 256 * 1024;
const WRITE_CHUNK = 256 * 1024;
const START_TIMEOUT_MS = 15_000;
/** What one read answers at most. */
const ANSWER_MAX_BYTES = 2 ** 20;
/** The last moment that google.protobuf.Timestamp can say: the end of the year 9999. */
const DATE_MAX_MS = 253_402_300_799_000;

/**
 * The runner's end of one control connection. Nothing that comes from the agent is believed beyond this sandbox: every field is
 * checked and bounded, and a frame that does not fit ends the connection, which ends the sandbox.
 */
export class AgentLink {
  readonly #socket: Socket;
  readonly #closed: Promise<void>;
  #alive = true;
  #nextRequest = 1;
  #exec:
    | {
        readonly id: number;
        readonly sink: ExecSink;
        stdinCredit: number;
        stdinWaiting: (() => void) | undefined;
      }
    | undefined;
  readonly #requests = new Map<
    number,
    {
      data: Buffer[];
      bytes: number;
      resolve: (reply: Record<string, unknown>, data: Buffer) => void;
      reject: (error: Error) => void;
    }
  >();
  #warm = false;
  #warmWaiting: (() => void)[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    this.#closed = this.#run();
  }

  /** Resolves when the connection is over. Never rejects. */
  get closed(): Promise<void> {
    return this.#closed;
  }

  /** Resolves when a rehearsed payload waits. @throws {OutriderError} SANDBOX_FAILED */
  async ready(): Promise<void> {
    if (this.#warm) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () =>
          reject(new OutriderError('SANDBOX_FAILED', 'the sandbox did not become ready in time')),
        START_TIMEOUT_MS,
      );
    });
    const warm = new Promise<void>((resolve) => this.#warmWaiting.push(resolve));
    const gone = this.#closed.then(() => {
      throw new OutriderError('SANDBOX_FAILED', 'the sandbox ended before it was ready');
    });
    gone.catch(() => {});
    try {
      await Promise.race([warm, late, gone]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Starts a program in the waiting payload; one at a time. */
  start(id: number, order: StartOrder, sink: ExecSink): void {
    if (this.#exec) throw new OutriderError('SESSION_BUSY', 'another program runs in this sandbox');
    this.#exec = { id, sink, stdinCredit: STDIN_WINDOW, stdinWaiting: undefined };
    this.#warm = false;
    if (this.#alive) this.#send(FRAME.START, id, JSON.stringify(order));
    else this.#lose('the sandbox is gone');
  }

  /** Lets the agent send that many more bytes of output. */
  credit(id: number, bytes: number): void {
    const body = Buffer.alloc(4);
    body.writeUInt32BE(bytes);
    this.#send(FRAME.CREDIT, id, body);
  }

  /** Resolves when there is room for more. */
  async stdin(id: number, data: Buffer): Promise<void> {
    for (let at = 0; at < data.length; at += WRITE_CHUNK) {
      const exec = this.#exec;
      if (exec?.id !== id) return;
      const piece = data.subarray(at, at + WRITE_CHUNK);
      exec.stdinCredit -= piece.length;
      this.#send(FRAME.STDIN, id, piece);
      if (exec.stdinCredit <= 0) {
        await new Promise<void>((resolve) => {
          exec.stdinWaiting = resolve;
        });
      }
    }
  }

  closeStdin(id: number): void {
    this.#send(FRAME.STDIN_CLOSE, id);
  }

  signal(id: number, signal: number): void {
    this.#send(FRAME.SIGNAL, id, JSON.stringify({ signal }));
  }

  /** Reads at most 512 KiB from `offset`. @throws {OutriderError} FILE_NOT_FOUND, FILE_REFUSED */
  async read(path: string, offset = 0, length = 0): Promise<Buffer> {
    return (await this.#request({ op: 'read', path, offset, length })).data;
  }

  /** Writes a file whole; resolves to its size. @throws {OutriderError} FILE_REFUSED */
  async write(
    path: string,
    content: AsyncIterable<Buffer> | Iterable<Buffer>,
    mode: number,
  ): Promise<number> {
    const id = this.#nextRequest++;
    await this.#request({ op: 'write', path, mode }, id);
    const done = this.#reply(id);
    done.catch(() => {}); // may fail while content is still coming, as on a full disk; it is awaited below
    try {
      for await (const piece of content) {
        for (let at = 0; at < piece.length; at += WRITE_CHUNK) {
          const chunk = piece.subarray(at, at + WRITE_CHUNK);
          if (chunk.length > 0 && !this.#send(FRAME.DATA_IN, id, chunk)) await this.#drained();
        }
      }
    } catch (error) {
      this.#requests.delete(id);
      await this.#request({ op: 'abandon', write: id }).catch(() => {}); // the sandbox is gone, and the file with it
      throw error;
    }
    this.#send(FRAME.DATA_IN, id);
    return numberField((await done).reply, 'size');
  }

  async list(path: string, depth: number): Promise<{ files: AgentFile[]; truncated: boolean }> {
    const { reply } = await this.#request({ op: 'list', path, depth });
    const files = Array.isArray(reply['files']) ? reply['files'].map(fileOf) : [];
    return { files, truncated: reply['truncated'] === true };
  }

  async stat(path: string): Promise<AgentFile> {
    return fileOf((await this.#request({ op: 'stat', path })).reply['file']);
  }

  async remove(path: string, recursive: boolean): Promise<void> {
    await this.#request({ op: 'remove', path, recursive });
  }

  close(): void {
    this.#socket.destroy();
  }

  #request(
    ask: Record<string, unknown>,
    id = this.#nextRequest++,
  ): Promise<{ reply: Record<string, unknown>; data: Buffer }> {
    const answer = this.#reply(id);
    this.#send(FRAME.REQUEST, id, JSON.stringify(ask));
    return answer;
  }

  #reply(id: number): Promise<{ reply: Record<string, unknown>; data: Buffer }> {
    return new Promise((resolve, reject) => {
      if (!this.#alive) reject(new OutriderError('SANDBOX_FAILED', 'the sandbox is gone'));
      else
        this.#requests.set(id, {
          data: [],
          bytes: 0,
          resolve: (reply, data) => resolve({ reply, data }),
          reject,
        });
    });
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#socket.off('drain', done);
        this.#socket.off('close', done);
        resolve();
      };
      this.#socket.on('drain', done);
      this.#socket.on('close', done);
    });
  }

  #send(type: number, id: number, body?: Buffer | string): boolean {
    return this.#alive && this.#socket.write(encodeFrame(type, id, body));
  }

  async #run(): Promise<void> {
    try {
      for await (const frame of readFrames(this.#socket)) this.#onFrame(frame);
    } catch {
      // A broken frame or socket: the same as an end, and the owner of this link ends the sandbox.
    }
    this.#alive = false;
    this.#socket.destroy();
    this.#lose('the sandbox ended');
    for (const request of this.#requests.values())
      request.reject(new OutriderError('SANDBOX_FAILED', 'the sandbox ended'));
    this.#requests.clear();
  }

  #onFrame({ type, id, body }: Frame): void {
    if (type === FRAME.FATAL && id === 0) throw new Error('the waiting interpreter ended');
    if (type === FRAME.READY) {
      this.#warm = true;
      for (const resolve of this.#warmWaiting.splice(0)) resolve();
      return;
    }
    if (type === FRAME.DATA || type === FRAME.REPLY) {
      this.#onReply(type, id, body);
      return;
    }
    const exec = this.#exec;
    if (exec?.id !== id) return; // HELLO, or late
    if (type === FRAME.STDOUT) exec.sink.output('stdout', body);
    else if (type === FRAME.STDERR) exec.sink.output('stderr', body);
    else if (type === FRAME.STARTED) exec.sink.started();
    else if (type === FRAME.TAKEN) {
      exec.stdinCredit += body.readUInt32BE(0);
      if (exec.stdinCredit > 0) exec.stdinWaiting?.();
    } else if (type === FRAME.FATAL) this.#lose(textField(parseObject(body), 'message'));
    else if (type === FRAME.END) {
      const end = endOf(parseObject(body)); // where it cannot be read the exec is lost, not forgotten
      this.#exec = undefined;
      exec.stdinWaiting?.();
      exec.sink.end(end);
    }
  }

  #onReply(type: number, id: number, body: Buffer): void {
    const request = this.#requests.get(id);
    if (!request) return;
    if (type === FRAME.DATA) {
      request.bytes += body.length;
      if (request.bytes > ANSWER_MAX_BYTES) throw new Error('more data than was asked for');
      request.data.push(body);
      return;
    }
    this.#requests.delete(id);
    const reply = parseObject(body);
    if (reply['ok'] === true) request.resolve(reply, Buffer.concat(request.data));
    else request.reject(fileError(textField(reply, 'errno'), textField(reply, 'message')));
  }

  #lose(message: string): void {
    const exec = this.#exec;
    this.#exec = undefined;
    exec?.stdinWaiting?.();
    exec?.sink.lost(message);
  }
}

function fileError(errno: string, message: string): OutriderError {
  const code = errno === 'ENOENT' || errno === 'ENOTDIR' ? 'FILE_NOT_FOUND' : 'FILE_REFUSED';
  return new OutriderError(code, message === '' ? 'the file cannot be used' : message);
}

function endOf(value: Record<string, unknown>): AgentEnd {
  const exception = value['exception'];
  const artefacts: unknown[] = Array.isArray(value['artefacts'])
    ? value['artefacts'].slice(0, 256)
    : [];
  return {
    exit: typeof value['exit'] === 'number' ? value['exit'] & 0xff : undefined,
    signal: typeof value['signal'] === 'number' ? value['signal'] : undefined,
    cpuMs: Math.round((numberField(value, 'utime') + numberField(value, 'stime')) * 1000),
    maxRssBytes: numberField(value, 'maxrss'),
    exception: isRecord(exception)
      ? {
          type: textField(exception, 'type'),
          message: textField(exception, 'message'),
          traceback: textField(exception, 'traceback'),
        }
      : undefined,
    artefacts: artefacts.filter(isRecord).map((entry) => ({
      path: textField(entry, 'path'),
      size: Math.trunc(numberField(entry, 'size')),
    })),
  };
}

function fileOf(value: unknown): AgentFile {
  const entry = isRecord(value) ? value : {};
  return {
    path: textField(entry, 'path'),
    type: textField(entry, 'type'),
    size: Math.trunc(numberField(entry, 'size')),
    mode: numberField(entry, 'mode') & 0o7777,
    modifiedAtMs: Math.min(Math.round(numberField(entry, 'mtime') * 1000), DATE_MAX_MS),
    link: textField(entry, 'link'),
  };
}

function parseObject(body: Buffer): Record<string, unknown> {
  const value: unknown = JSON.parse(body.toString('utf8'));
  if (!isRecord(value)) throw new Error('a control frame must hold an object');
  return value;
}

/** Not negative, and a whole number of that size is exact. */
function numberField(value: Record<string, unknown>, name: string): number {
  const field = value[name];
  return typeof field === 'number' && Number.isFinite(field)
    ? Math.min(Math.max(0, field), Number.MAX_SAFE_INTEGER)
    : 0;
}

function textField(value: Record<string, unknown>, name: string): string {
  const field = value[name];
  return typeof field === 'string' ? field : '';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
