import type { Clock } from '#core/clock';
import { CLOCK_TOLERANCE_S, TOKEN_LIFE_S } from '#core/tokens';

/** One exec whose tokens are good no longer. */
export interface Revoked {
  readonly execId: string;
  /** When none of its tokens can be valid any more, milliseconds since 1970. */
  readonly expiresAtMs: number;
}

/** What is told to one watcher at a time. */
export interface RevocationNews {
  /** Empty as a keep-alive. */
  readonly revoked: readonly Revoked[];
  /** With it, all that was in force when the watch began has been told. */
  readonly synced: boolean;
}

/** A token that was minted just before the end, by a clock that is ahead, at a proxy whose clock is behind. */
const KEEP_MS = (TOKEN_LIFE_S + 2 * CLOCK_TOLERANCE_S) * 1_000;
const KEEP_ALIVE_MS = 10_000;
/** Bounds one message: about 60 bytes each. */
const AT_ONCE_MAX = 10_000;

/**
 * The execs that ended lately, until their last token has run out, for the proxies that ask. A watcher is told first of all that is
 * in force, then of each as it ends. Bounded by the rate at which execs end: each is kept for 70 s.
 */
export class Revocations {
  readonly #inForce = new Map<string, Revoked>();
  readonly #watchers = new Set<{ readonly queue: Revoked[]; wake: () => void }>();
  readonly #now: Clock;
  #closed = false;

  constructor(now: Clock = Date.now) {
    this.#now = now;
  }

  /** From now on no token of this exec is good. Never throws: it is called at the end of an exec. */
  revoke(execId: string): void {
    this.#forget();
    const revoked = { execId, expiresAtMs: this.#now() + KEEP_MS };
    this.#inForce.delete(execId); // a Map keeps the order of insertion, which is that of expiry
    this.#inForce.set(execId, revoked);
    for (const watcher of this.#watchers) {
      watcher.queue.push(revoked);
      // One that does not read is owed no more than what is in force.
      if (watcher.queue.length > this.#inForce.size)
        watcher.queue.splice(0, Infinity, ...this.#inForce.values());
      watcher.wake();
    }
  }

  /** Until `signal` or `close`. */
  async *watch(signal: AbortSignal): AsyncGenerator<RevocationNews, void, undefined> {
    this.#forget();
    const watcher = { queue: [...this.#inForce.values()], wake: () => {} };
    const wake = (): void => watcher.wake();
    this.#watchers.add(watcher);
    signal.addEventListener('abort', wake);
    try {
      let synced = false;
      while (!signal.aborted) {
        const revoked = watcher.queue.splice(0, AT_ONCE_MAX);
        synced ||= watcher.queue.length === 0;
        yield { revoked, synced };
        if (watcher.queue.length > 0) continue;
        if (this.#closed) return;
        if (!signal.aborted) await woken(watcher);
      }
    } finally {
      signal.removeEventListener('abort', wake);
      this.#watchers.delete(watcher);
    }
  }

  /** Ends every watch, once it has been told everything. */
  close(): void {
    this.#closed = true;
    for (const watcher of this.#watchers) watcher.wake();
  }

  #forget(): void {
    const now = this.#now();
    for (const { execId, expiresAtMs } of this.#inForce.values()) {
      if (expiresAtMs > now) return;
      this.#inForce.delete(execId);
    }
  }
}

/** Resolves when there is news, or it is time to say that there is none. */
async function woken(watcher: { wake: () => void }): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    watcher.wake = resolve;
    timer = setTimeout(resolve, KEEP_ALIVE_MS).unref();
  });
  clearTimeout(timer);
  watcher.wake = () => {};
}
