import { OutriderError } from '#core/errors';

/** What a key stands for: something that was begun once. */
export interface Once {
  /** Resolves when it is over; rejects where it never began, and the key is free again. */
  readonly ended: Promise<unknown>;
  /** What it keeps in memory. */
  readonly bytes: number;
  /** Lets go of what it keeps; only after its end. */
  shed(): void;
}

interface Entry<T> {
  readonly owner: string;
  readonly key: string;
  readonly digest: string;
  readonly value: T;
  /** Infinity while it goes on. */
  expiresAt: number;
}

export interface IdempotencyOptions {
  readonly now?: () => number;
  /** How long a key is remembered after the end. */
  readonly keepMs?: number;
  readonly keysPerOwner?: number;
  readonly keys?: number;
  /** Of what has ended, for everybody together: beyond it the oldest let go of what they keep. */
  readonly bytes?: number;
}

export const KEEP_MS = 10 * 60_000;
const KEY_MAX = 128;

/**
 * Same owner and same key: one begin, until 10 minutes after its end. Memory is bounded: 5 000 keys an owner, 20 000 in all,
 * 64 MiB of results; a key is never forgotten early, so where there is no room for another it is refused.
 */
export class Idempotency<T extends Once> {
  readonly #entries = new Map<string, Entry<T>>();
  /** What has ended, oldest first. */
  readonly #ended = new Set<Entry<T>>();
  /** Of these, what still keeps its result. */
  readonly #holding = new Set<Entry<T>>();
  readonly #perOwner = new Map<string, number>();
  readonly #now: () => number;
  readonly #most: Required<Omit<IdempotencyOptions, 'now'>>;
  #bytes = 0;

  constructor(options: IdempotencyOptions = {}) {
    this.#now = options.now ?? Date.now;
    const { keepMs = KEEP_MS, keysPerOwner = 5_000, keys = 20_000, bytes = 64 * 2 ** 20 } = options;
    this.#most = { keepMs, keysPerOwner, keys, bytes };
  }

  /**
   * What this key stands for, begun now where it is new. `digest` says what was asked.
   * @throws {OutriderError} INVALID_REQUEST: the key stands for something else, or is too long; QUOTA_EXCEEDED
   */
  take(owner: string, key: string, digest: string, begin: () => T): { value: T; first: boolean } {
    this.#expire();
    const known = this.#entries.get(nameOf(owner, key));
    if (known && known.digest !== digest)
      throw new OutriderError(
        'INVALID_REQUEST',
        'the idempotency_key was used for something else within the last 10 minutes',
      );
    if (known) return { value: known.value, first: false };
    if (key.length > KEY_MAX)
      throw new OutriderError('INVALID_REQUEST', `idempotency_key: at most ${KEY_MAX} characters`);
    this.#assertRoom(owner);
    const value = begin();
    this.remember(owner, key, digest, value);
    return { value, first: true };
  }

  /** Lets a key stand for what was begun before. */
  remember(owner: string, key: string, digest: string, value: T): void {
    const entry: Entry<T> = { owner, key, digest, value, expiresAt: Infinity };
    this.#entries.set(nameOf(owner, key), entry);
    this.#perOwner.set(owner, (this.#perOwner.get(owner) ?? 0) + 1);
    value.ended.then(
      () => this.#keep(entry),
      () => this.#drop(entry),
    );
  }

  #keep(entry: Entry<T>): void {
    entry.expiresAt = this.#now() + this.#most.keepMs;
    this.#ended.add(entry);
    this.#holding.add(entry);
    this.#bytes += entry.value.bytes;
    for (const oldest of this.#holding) {
      if (this.#bytes <= this.#most.bytes) break;
      this.#shed(oldest);
    }
  }

  #shed(entry: Entry<T>): void {
    if (!this.#holding.delete(entry)) return;
    this.#bytes -= entry.value.bytes;
    entry.value.shed();
  }

  #expire(): void {
    const now = this.#now();
    for (const entry of this.#ended) {
      if (entry.expiresAt > now) break; // the oldest stand first
      this.#shed(entry);
      this.#drop(entry);
    }
  }

  #drop(entry: Entry<T>): void {
    this.#ended.delete(entry);
    this.#entries.delete(nameOf(entry.owner, entry.key));
    const left = (this.#perOwner.get(entry.owner) ?? 1) - 1;
    if (left > 0) this.#perOwner.set(entry.owner, left);
    else this.#perOwner.delete(entry.owner);
  }

  #assertRoom(owner: string): void {
    const mine = this.#perOwner.get(owner) ?? 0;
    if (mine < this.#most.keysPerOwner && this.#entries.size < this.#most.keys) return;
    const [oldest] = this.#ended;
    throw new OutriderError('QUOTA_EXCEEDED', 'too many idempotency keys are remembered', {
      retryAfterMs: oldest ? oldest.expiresAt - this.#now() : this.#most.keepMs,
    });
  }
}

function nameOf(owner: string, key: string): string {
  return JSON.stringify([owner, key]);
}
