import { OutriderError } from '#core/errors';
import { principalKey } from '#core/principal';
import { type Owner, Shares } from './shares.ts';

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
  readonly who: Owner;
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
  /** So that no tenant takes what others need. */
  readonly keysPerTenant?: number;
  readonly keys?: number;
  /** Of what has ended, for everybody together: beyond it whoever has the most lets go of the oldest. */
  readonly bytes?: number;
}

export const KEEP_MS = 10 * 60_000;
const KEY_MAX = 128;

/**
 * Same owner and same key: one begin, until 10 minutes after its end. Memory is bounded: 5 000 keys an owner, 10 000 a tenant,
 * 20 000 in all, 64 MiB of results; a key is never forgotten early, so where there is no room for another it is refused.
 */
export class Idempotency<T extends Once> {
  readonly #entries = new Map<string, Entry<T>>();
  /** What has ended, oldest first. */
  readonly #ended = new Set<Entry<T>>();
  /** Of these, what still keeps its result. */
  readonly #holding = new Shares<Entry<T>>();
  readonly #perOwner = new Counts();
  readonly #perTenant = new Counts();
  readonly #now: () => number;
  readonly #most: Required<Omit<IdempotencyOptions, 'now'>>;

  constructor(options: IdempotencyOptions = {}) {
    this.#now = options.now ?? Date.now;
    this.#most = {
      keepMs: KEEP_MS,
      keysPerOwner: 5_000,
      keysPerTenant: 10_000,
      keys: 20_000,
      bytes: 64 * 2 ** 20,
      ...options,
    };
  }

  /**
   * What this key stands for, begun now where it is new. `digest` says what was asked.
   * @throws {OutriderError} INVALID_REQUEST: the key stands for something else, or is too long; QUOTA_EXCEEDED
   */
  take(who: Owner, key: string, digest: string, begin: () => T): { value: T; first: boolean } {
    this.#expire();
    const known = this.#entries.get(nameOf(who, key));
    if (known && known.digest !== digest)
      throw new OutriderError(
        'INVALID_REQUEST',
        'the idempotency_key was used for something else within the last 10 minutes',
      );
    if (known) return { value: known.value, first: false };
    if (key.length > KEY_MAX)
      throw new OutriderError('INVALID_REQUEST', `idempotency_key: at most ${KEY_MAX} characters`);
    this.#assertRoom(who);
    const value = begin();
    this.remember(who, key, digest, value);
    return { value, first: true };
  }

  /** Lets a key stand for what was begun before. */
  remember(who: Owner, key: string, digest: string, value: T): void {
    const entry: Entry<T> = { who, key, digest, value, expiresAt: Infinity };
    this.#entries.set(nameOf(who, key), entry);
    this.#perOwner.add(keyOf(who), 1);
    this.#perTenant.add(who.tenant, 1);
    value.ended.then(
      () => this.#keep(entry),
      () => this.#drop(entry),
    );
  }

  #keep(entry: Entry<T>): void {
    entry.expiresAt = this.#now() + this.#most.keepMs;
    this.#ended.add(entry);
    this.#holding.add(entry, entry.who, entry.value.bytes);
    for (let { first } = this.#holding; first; { first } = this.#holding) {
      if (this.#holding.bytes <= this.#most.bytes) break;
      this.#shed(first);
    }
  }

  #shed(entry: Entry<T>): void {
    if (this.#holding.delete(entry)) entry.value.shed();
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
    this.#entries.delete(nameOf(entry.who, entry.key));
    this.#perOwner.add(keyOf(entry.who), -1);
    this.#perTenant.add(entry.who.tenant, -1);
  }

  #assertRoom(who: Owner): void {
    const { keys, keysPerOwner, keysPerTenant } = this.#most;
    const free =
      this.#perOwner.of(keyOf(who)) < keysPerOwner &&
      this.#perTenant.of(who.tenant) < keysPerTenant &&
      this.#entries.size < keys;
    if (free) return;
    const [oldest] = this.#ended;
    throw new OutriderError('QUOTA_EXCEEDED', 'too many idempotency keys are remembered', {
      retryAfterMs: oldest ? oldest.expiresAt - this.#now() : this.#most.keepMs,
    });
  }
}

class Counts {
  readonly #counts = new Map<string, number>();

  of(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  add(key: string, by: number): void {
    const count = this.of(key) + by;
    if (count > 0) this.#counts.set(key, count);
    else this.#counts.delete(key);
  }
}

function keyOf(who: Owner): string {
  return principalKey({ ...who, groups: [], claims: {} });
}

function nameOf(who: Owner, key: string): string {
  return JSON.stringify([keyOf(who), key]);
}
