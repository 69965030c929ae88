import { readFileSync, statSync } from 'node:fs';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { OutriderError } from '#core/errors';
import { type Reply, ReplyReader } from './redis-replies.ts';

/** Where a Redis is, and what lets us in. */
export interface RedisPlace {
  readonly host: string;
  readonly port: number;
  /** Whether TLS is spoken; its certificate is checked. */
  readonly tls: boolean;
  readonly database: number;
  readonly password: string | undefined;
}

/** A session waits for it: one that takes longer is away. */
const ANSWERS_WITHIN_MS = 250;
/** One that is away is not asked for so long, so that no session waits for it again and again. */
const AWAY_MS = 1_000;

/**
 * `redis://host[:port][/database]`, or `rediss://` with TLS; the password is in a file that only its owner may read.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function redisPlace(text: string, passwordFile: string | undefined): RedisPlace {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const database = /^\/?(\d{0,4})$/.exec(url?.pathname ?? '-')?.[1];
  if (!url || !/^rediss?:$/.test(url.protocol) || url.hostname === '' || database === undefined)
    throw invalid('must be redis://host[:port][/database], or rediss:// with TLS');
  if (url.username !== '' || url.password !== '')
    throw invalid('must hold no password: name a file in gateway.recoveryRedisPasswordFile');
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port || 6_379),
    tls: url.protocol === 'rediss:',
    database: Number(database),
    password: passwordFile === undefined ? undefined : passwordIn(passwordFile),
  };
}

interface Asked {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
  readonly deadline: number;
}

/** One connection to a Redis, made when it is needed and again after it was lost. Speaks RESP2, as every version does. */
export class RedisConnection {
  readonly #place: RedisPlace;
  #socket: Socket | undefined;
  #asked: Asked[] = [];
  #awayUntil = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(place: RedisPlace) {
    this.#place = place;
  }

  /** What it answers to a command. Rejects where it refuses, is away, or says nothing for 250 ms. */
  ask(words: readonly string[]): Promise<Reply> {
    if (performance.now() < this.#awayUntil) return Promise.reject(new Error('Redis is away'));
    this.#socket ??= this.#connect();
    return this.#send(this.#socket, words);
  }

  close(): void {
    this.#socket?.destroy();
    this.#end(new Error('closed'));
  }

  #connect(): Socket {
    const { host, port, tls, database, password } = this.#place;
    const socket = tls ? connectTls({ host, port, servername: host }) : connectTcp({ host, port });
    const replies = new ReplyReader();
    socket.setNoDelay(true);
    const lost = (error?: Error) => {
      if (socket === this.#socket) this.#lost(error ?? new Error('Redis closed the connection'));
    };
    socket.on('error', lost).on('close', () => lost());
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const reply of replies.read(chunk)) this.#settle(reply);
      } catch (error) {
        socket.destroy(error instanceof Error ? error : new Error('no Redis'));
      }
    });
    // Sent ahead of everything else. Where they are refused, so is what follows.
    if (password !== undefined) this.#send(socket, ['AUTH', password]).catch(() => {});
    if (database !== 0) this.#send(socket, ['SELECT', String(database)]).catch(lost);
    return socket;
  }

  #send(socket: Socket, words: readonly string[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ resolve, reject, deadline: performance.now() + ANSWERS_WITHIN_MS });
      const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
      socket.write(`*${words.length}\r\n${parts.join('')}`);
      this.#watch();
    });
  }

  #settle(reply: Reply): void {
    const next = this.#asked.shift();
    if (reply instanceof Error) next?.reject(reply);
    else next?.resolve(reply);
  }

  /** Answers come in order: where the first does not come, none does. */
  #watch(): void {
    const [first] = this.#asked;
    if (!first || this.#timer) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        const late = (this.#asked[0]?.deadline ?? Infinity) <= performance.now();
        if (late) this.#lost(new Error('Redis did not answer in time'));
        else this.#watch();
      },
      Math.max(1, first.deadline - performance.now()),
    );
    this.#timer.unref();
  }

  #lost(error: Error): void {
    this.#awayUntil = performance.now() + AWAY_MS;
    const socket = this.#socket;
    this.#end(error);
    socket?.destroy();
  }

  #end(error: Error): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#socket = undefined;
    const asked = this.#asked;
    this.#asked = [];
    for (const { reject } of asked) reject(error);
  }
}

function passwordIn(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  const password = stat && (stat.mode & 0o077) === 0 ? readFileSync(path, 'utf8').trim() : '';
  if (password === '')
    throw new OutriderError(
      'CONFIG_INVALID',
      `gateway.recoveryRedisPasswordFile: ${path} must hold the password and be readable by its owner only: chmod 600 ${path}`,
    );
  return password;
}

function invalid(problem: string): OutriderError {
  return new OutriderError('CONFIG_INVALID', `gateway.recoveryRedis ${problem}`);
}
