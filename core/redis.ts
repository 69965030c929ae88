import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { OutriderError } from './errors.ts';
import { afterTime } from './http1/after-time.ts';
import { encode, RedisError, type Reply, ReplyReader } from './resp.ts';

/** Where a Redis is. */
export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  /** Whether TLS is spoken; its certificate is checked. */
  readonly tls: boolean;
  readonly database: number;
  /** Of a password with a name; undefined: that of the server. */
  readonly username: string | undefined;
}

/** Reads `redis://[user@]host[:port][/database]`, or `rediss://` for TLS. @throws {Error} saying what is expected */
export function parseRedisUrl(text: string): RedisAddress {
  const expected = 'must be redis://[user@]host[:port][/database], or rediss:// for TLS';
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^rediss?:$/.test(url.protocol) || url.hostname === '') throw new Error(expected);
  if (url.password !== '') throw new Error(`${expected}; the password is a secret of its own`);
  const database = url.pathname.replace(/^\//, '');
  if (!/^\d{0,4}$/.test(database) || url.search !== '' || url.hash !== '')
    throw new Error(expected);
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 6_379 : Number(url.port),
    tls: url.protocol === 'rediss:',
    database: Number(database),
    username: url.username === '' ? undefined : decodeURIComponent(url.username),
  };
}

/** Its name and arguments. */
export type RedisCommand = readonly (string | number)[];

export interface RedisOptions {
  readonly address: RedisAddress;
  /** Asked for at each connection; undefined: none is needed. */
  readonly password: () => string | undefined;
  /** What takes longer is taken for a connection that is dead. Default 250. */
  readonly answerMs?: number;
  /** Sent after each connection, before it counts as available: at least one command, since only an answer tells that it is Redis. */
  readonly greet: readonly [RedisCommand, ...RedisCommand[]];
  /** Told of each change, and where the first connection fails. */
  readonly onAvailable?: (available: boolean, why?: unknown) => void;
}

const ANSWER_MS = 250;
const RETRY_FIRST_MS = 50;
const RETRY_MAX_MS = 2_000;

interface Waiting {
  readonly replies: Reply[];
  readonly wanted: number;
  readonly inTime: () => void;
  readonly resolve: (replies: readonly Reply[]) => void;
  readonly reject: (error: Error) => void;
}

/**
 * One connection to Redis (RESP2, as every version speaks it), made anew whenever it breaks, after 50 ms at first and 2 s at most. A
 * command is never repeated: whoever asked decides. Without it there is no waiting: what is asked while it is away is rejected at once.
 */
export class Redis {
  /** Resolves when the first connection stands or has failed, after twice `answerMs` at most: until then nothing is available. */
  readonly tried: Promise<void>;
  readonly #options: RedisOptions;
  readonly #answerMs: number;
  readonly #waiting: Waiting[] = [];
  #socket: Socket | undefined;
  #reader = new ReplyReader();
  #available = false;
  /** What was told last; undefined: nothing yet. */
  #told: boolean | undefined;
  #retryMs = RETRY_FIRST_MS;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;
  #isTried = (): void => {};

  constructor(options: RedisOptions) {
    this.#options = options;
    this.#answerMs = options.answerMs ?? ANSWER_MS;
    this.tried = new Promise((resolve) => {
      this.#isTried = resolve;
    });
    this.#connect();
  }

  get available(): boolean {
    return this.#available;
  }

  /** Sends commands together; one reply for each. @throws {Error} where they are not all answered in time */
  send(commands: readonly RedisCommand[]): Promise<readonly Reply[]> {
    if (!this.#available) return Promise.reject(new Error('Redis is away'));
    return this.#exchange(commands);
  }

  /** Gives this connection up and makes another: what it was greeted with is no longer there. */
  renew(why: unknown): void {
    this.#drop(why);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#drop(new Error('closed'));
  }

  #exchange(commands: readonly RedisCommand[]): Promise<readonly Reply[]> {
    if (commands.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const late = () => this.#drop(new Error('no answer in time'));
      const inTime = afterTime(this.#answerMs, late);
      this.#waiting.push({ replies: [], wanted: commands.length, inTime, resolve, reject });
      this.#socket?.write(commands.map(encode).join(''));
    });
  }

  #connect(): void {
    const { host, port, tls } = this.#options.address;
    const socket = tls
      ? connectTls({ host, port, servername: host })
      : connect({ host, port, noDelay: true });
    this.#socket = socket;
    this.#reader = new ReplyReader();
    const inTime = afterTime(this.#answerMs, () =>
      this.#drop(new Error('no connection in time'), socket),
    );
    socket.unref();
    socket.on('error', (error) => this.#drop(error, socket));
    socket.on('close', () => this.#drop(new Error('the connection broke'), socket));
    socket.on('data', (chunk: Buffer) => this.#read(socket, chunk));
    socket.once(tls ? 'secureConnect' : 'connect', () => {
      void this.#greet().catch((error: unknown) => this.#drop(error, socket));
    });
    socket.once('close', inTime);
    socket.once(tls ? 'secureConnect' : 'connect', inTime);
  }

  async #greet(): Promise<void> {
    const { address, password, greet } = this.#options;
    const secret = password();
    const replies = await this.#exchange([
      ...(secret === undefined
        ? []
        : [['AUTH', ...(address.username === undefined ? [] : [address.username]), secret]]),
      ...(address.database === 0 ? [] : [['SELECT', address.database]]),
      ...greet,
    ]);
    const refused = replies.find((reply) => reply instanceof RedisError);
    if (refused) throw refused;
    this.#retryMs = RETRY_FIRST_MS;
    this.#available = true;
    this.#isTried();
    this.#tell(true);
  }

  #read(socket: Socket, chunk: Buffer): void {
    if (socket !== this.#socket) return;
    try {
      for (const reply of this.#reader.push(chunk)) this.#take(reply);
    } catch (error) {
      this.#drop(error, socket);
    }
  }

  #take(reply: Reply): void {
    const [first] = this.#waiting;
    if (!first) throw new Error('an answer that nobody asked for');
    first.replies.push(reply);
    if (first.replies.length < first.wanted) return;
    this.#waiting.shift();
    first.inTime();
    first.resolve(first.replies);
  }

  /** Gives a connection up, and all that was asked over it; tries another after a while. */
  #drop(why: unknown, socket = this.#socket): void {
    if (socket === undefined || socket !== this.#socket) return;
    this.#socket = undefined;
    this.#isTried();
    socket.destroy();
    this.#available = false;
    const error = new OutriderError('UPSTREAM_LOST', 'Redis did not answer', { cause: why });
    for (const { inTime, reject } of this.#waiting.splice(0)) {
      inTime();
      reject(error);
    }
    if (this.#closed) return;
    this.#tell(false, why);
    this.#retry = setTimeout(() => this.#connect(), this.#retryMs).unref();
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }

  #tell(available: boolean, why?: unknown): void {
    if (this.#told === available) return;
    this.#told = available;
    this.#options.onAvailable?.(available, why);
  }
}
