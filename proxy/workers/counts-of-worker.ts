import type { Countable, CountedIn, Counts } from '../counts.ts';
import type { CountAnswer, Counting } from './doors.ts';

/** What one worker has counted in the view of all: the other end of `RemoteCounts`. */
export class CountsOfWorker {
  readonly #counts: Counts;
  readonly #onUsedUp: (ids: readonly number[]) => void;
  readonly #open = new Map<number, CountedIn>();
  #nextId = 1;
  #gone = false;

  /** `onUsedUp` is told whose bytes have used up a budget. */
  constructor(counts: Counts, onUsedUp: (ids: readonly number[]) => void) {
    this.#counts = counts;
    this.#onUsedUp = onUsedUp;
  }

  count(countable: Countable): CountAnswer | Promise<CountAnswer> {
    const keeps = isKept(countable);
    const answer = (counted: Awaited<ReturnType<Counts['take']>>): CountAnswer => {
      if (!counted.ok) return counted;
      return { ok: true, id: keeps ? this.#keep(counted) : null };
    };
    const taking = this.#counts.take(countable);
    return taking instanceof Promise ? taking.then(answer) : answer(taking);
  }

  counting({ spent, released }: Counting): void {
    const usedUp = spent.filter(([id, bytes]) => this.#open.get(id)?.spend(bytes) === false);
    if (usedUp.length > 0) this.#onUsedUp(usedUp.map(([id]) => id));
    for (const id of released) {
      this.#open.get(id)?.release();
      this.#open.delete(id);
    }
  }

  /** To be called when the worker has ended: what it had open has, too. */
  close(): void {
    this.#gone = true;
    for (const { release } of this.#open.values()) release();
    this.#open.clear();
  }

  #keep(counted: CountedIn): number | null {
    if (this.#gone) {
      counted.release();
      return null;
    }
    const id = this.#nextId++;
    this.#open.set(id, counted);
    return id;
  }
}

/** Whether there is anything to count after the beginning: an end, or bytes. */
function isKept({ limits, concurrent, budgets }: Countable): boolean {
  return (
    concurrent !== undefined ||
    limits.some(({ unit }) => unit === 'bytes') ||
    budgets.some(({ bytes }) => bytes !== undefined)
  );
}
