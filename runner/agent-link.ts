import type { Socket } from 'node:net';
import { OutriderError } from '#core/errors';
import {
  type AgentEnd,
  type AgentFile,
  endOf,
  fileOf,
  numberField,
  parseObject,
  skippedOf,
  textField,
} from './agent-reports.ts';
import { encodeFrame, FRAME, type Frame, readFrames } from './frames.ts';

/** What waits in a sandbox: the interpreter of a profile, with the environment that it is started with. */
export interface Waiting {
  readonly profile: string;
  readonly env: Readonly<Record<string, string>>;
}

/** What a payload is told at its start: `code` of a `language`, or the command line `argv`. */
export interface StartOrder {
  /** "python", "javascript", "typescript" or "shell"; absent: Python. */
  readonly language?: string;
  readonly code?: string;
  readonly name?: string;
  readonly args?: readonly string[];
  readonly argv?: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly stdin: boolean;
  readonly rlimits: Readonly<Record<string, number>>;
  /** The program's connections wait until `openDoor`; absent: they are served from its start on. */
  readonly door?: 'shut';
  /** Of each output stream the agent sends so many of the first bytes and of the last, and counts the others; absent: everything. */
  readonly keep?: { readonly head: number; readonly tail: number };
}

export interface ExecSink {
  output(stream: 'stdout' | 'stderr', data: Buffer): void;
  /** So many bytes were dropped before what comes next of the stream. */
  skipped(stream: 'stdout' | 'stderr', bytes: number): void;
  end(end: AgentEnd): void;
  /** The agent could not start it, or is gone. */
  lost(message: string): void;
}

/** How much of stdin may be under way before the agent has taken any. */
const STDIN_WINDOW = 256 * 1024;
const WRITE_CHUNK = 256 * 1024;
/** Only against hanging: a profile with numpy and pandas takes a second, and many where the machine has no time for it. */
const START_TIMEOUT_MS = 60_000;
/** How much of what the agent says of itself is passed on. */
const PROBLEM_MAX = 500;
/** What one read answers at most. */
const ANSWER_MAX_BYTES = 2 ** 20;

/**
 * The runner's end of one control connection. Nothing that comes from the agent is believed beyond this sandbox: every field is
 * checked and bounded, and a frame that does not fit ends the connection, which ends the sandbox.
 */
export class AgentLink {
  readonly #socket: Socket;
  #waiting: Waiting;
  readonly #closed: Promise<void>;
  #alive = true;
  /** Why there is no interpreter, as the agent said. */
  #problem = '';
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
  /** Whether an interpreter waits, is being made ready, or has not been asked for. */
  #warm: 'no' | 'coming' | 'yes' = 'no';
  #warmWaiting: (() => void)[] = [];

  /** Asks for the first interpreter at once. */
  constructor(socket: Socket, waiting: Waiting) {
    this.#socket = socket;
    this.#waiting = waiting;
    socket.setNoDelay(true);
    this.#closed = this.#run();
    this.prepare();
  }

  /** Resolves when the connection is over. Never rejects. */
  get closed(): Promise<void> {
    return this.#closed;
  }

  /** Has an interpreter waiting for the next program; without it that one starts its own. */
  prepare(): void {
    if (this.#warm !== 'no' || this.#exec) return;
    this.#warm = 'coming';
    this.#send(FRAME.PREPARE, 0, JSON.stringify(this.#waiting));
  }

  /** Has another interpreter wait from the next time on. */
  become(waiting: Waiting): void {
    this.#waiting = waiting;
    this.prepare();
  }

  /** Resolves when a rehearsed payload waits. @throws {OutriderError} SANDBOX_FAILED */
  async ready(): Promise<void> {
    if (this.#warm === 'yes') return;
    this.prepare();
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
      const why = this.#problem || 'the sandbox ended before it was ready';
      throw new OutriderError('SANDBOX_FAILED', why);
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
    this.assertFree();
    this.#exec = { id, sink, stdinCredit: STDIN_WINDOW, stdinWaiting: undefined };
    this.#warm = 'no';
    if (this.#alive) this.#send(FRAME.START, id, JSON.stringify(order));
    else this.#lose('the sandbox is gone');
  }

  /** @throws {OutriderError} SESSION_BUSY while a program runs */
  assertFree(): void {
    if (this.#exec) throw new OutriderError('SESSION_BUSY', 'another program runs in this sandbox');
  }

  /** Lets the connections of a program pass that was started with its door shut. */
  openDoor(id: number): void {
    this.#send(FRAME.DOOR, id);
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

  /** Ends every process in the sandbox but the agent, also those that left the program's group or session. */
  kill(id: number): void {
    this.#send(FRAME.KILL, id);
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

  /**
   * One page of what is in a directory and down to `depth` below it: at most `most` entries (0: as many as a page holds), which
   * follow the one that `after` names, a page's `next`; `next` is empty on the last.
   * @throws {OutriderError} FILE_NOT_FOUND, FILE_REFUSED
   */
  async list(
    path: string,
    depth: number,
    most = 0,
    after = '',
  ): Promise<{ files: AgentFile[]; next: string }> {
    const { reply } = await this.#request({ op: 'list', path, depth, most, after });
    const files = Array.isArray(reply['files']) ? reply['files'].map(fileOf) : [];
    return { files, next: textField(reply, 'next') };
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
    if (type === FRAME.FATAL && id === 0) {
      this.#problem = textField(parseObject(body), 'message').slice(0, PROBLEM_MAX);
      throw new Error(this.#problem);
    }
    if (type === FRAME.READY) {
      if (this.#warm !== 'coming') return; // of the one that runs by now
      this.#warm = 'yes';
      for (const resolve of this.#warmWaiting.splice(0)) resolve();
      return;
    }
    if (type === FRAME.DATA || type === FRAME.REPLY) {
      this.#onReply(type, id, body);
      return;
    }
    const exec = this.#exec;
    if (exec?.id !== id) return; // HELLO, or late
    if (type === FRAME.SKIPPED) exec.sink.skipped(...skippedOf(body));
    else if (type === FRAME.STDOUT) exec.sink.output('stdout', body);
    else if (type === FRAME.STDERR) exec.sink.output('stderr', body);
    else if (type === FRAME.TAKEN) {
      exec.stdinCredit += body.readUInt32BE(0);
      if (exec.stdinCredit > 0) exec.stdinWaiting?.();
    } else if (type === FRAME.FATAL) this.#lose(textField(parseObject(body), 'message'));
    else if (type === FRAME.END) {
      const end = endOf(parseObject(body)); // where it cannot be read the exec is lost, not forgotten
      this.#exec = undefined;
      exec.stdinWaiting?.();
      exec.sink.end(end);
      if (this.#warmWaiting.length > 0) this.prepare();
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
