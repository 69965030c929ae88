import type { Clock } from '#core/clock';
import type { News } from '../recovery/news.ts';

/** Enough for a day of one deletion a second. */
const ENDED_MAX = 100_000;

/**
 * The sessions that were ended through this gateway, or through another that it has news from, until they would have expired, the newest
 * 100 000 of them. Without news, what was ended through another one is found out by its server, if it has one that no longer knows it.
 */
export class EndedSessions {
  readonly #until = new Map<string, number>();
  readonly #now: Clock;
  readonly #news: News | undefined;

  constructor(now: Clock = Date.now, news?: News) {
    this.#now = now;
    this.#news = news;
    news?.on('ended', ([key, expiresAt]) => {
      if (typeof key === 'string' && typeof expiresAt === 'number') this.#note(key, expiresAt);
    });
  }

  /** Resolves when the others were told. */
  async add(key: string, expiresAt: number): Promise<void> {
    this.#note(key, expiresAt);
    await this.#news?.tell('ended', [key, expiresAt]);
  }

  has(key: string): boolean {
    return this.#until.has(key);
  }

  #note(key: string, expiresAt: number): void {
    this.#until.delete(key);
    this.#until.set(key, expiresAt);
    // In the order of their ends, which is nearly that of their expiries: the first ones go first.
    for (const [old, until] of this.#until) {
      if (until > this.#now() && this.#until.size <= ENDED_MAX) break;
      this.#until.delete(old);
    }
  }
}
