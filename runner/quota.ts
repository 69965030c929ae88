import { OutriderError } from '#core/errors';

const RETRY_AFTER_MS = 1_000;

export interface QuotaOptions {
  /** Execs at one time, of everybody. */
  readonly capacity: number;
  /** The memory limits of all sandboxes in use, together, in bytes; 0 for no bound. */
  readonly memoryBytes: number;
  readonly onRunning: (running: number) => void;
}

/** How many execs there are at one time: of each owner, whichever runner runs them, and of everybody on this runner. */
export class Quota {
  readonly #options: QuotaOptions;
  readonly #owned = new Map<string, number>();
  #running = 0;
  #memoryBytes = 0;

  constructor(options: QuotaOptions) {
    this.#options = options;
  }

  /** Execs of this runner that have a place. */
  get running(): number {
    return this.#running;
  }

  /**
   * A place for one exec of this owner here, until the function returned is called.
   * @throws {OutriderError} QUOTA_EXCEEDED: `most` of the owner run; RUNNER_BUSY: all places are taken, whoever has them
   */
  reserve(owner: string, most: number): () => void {
    this.#assertOwned(owner, most);
    if (this.#running >= this.#options.capacity)
      throw new OutriderError('RUNNER_BUSY', 'the runner is busy', {
        retryAfterMs: RETRY_AFTER_MS,
      });
    const release = this.#count(owner);
    this.#options.onRunning(++this.#running);
    return once(() => {
      release();
      this.#options.onRunning(--this.#running);
    });
  }

  /** As `reserve`, for an exec that another runner runs: it takes no place here. @throws {OutriderError} QUOTA_EXCEEDED */
  hold(owner: string, most: number): () => void {
    this.#assertOwned(owner, most);
    return once(this.#count(owner));
  }

  /**
   * The memory of one sandbox, until the function returned is called.
   * @throws {OutriderError} RUNNER_BUSY; BACKEND_UNAVAILABLE where there is never so much
   */
  memory(bytes: number): () => void {
    const most = this.#options.memoryBytes;
    if (most > 0 && bytes > most)
      throw new OutriderError(
        'BACKEND_UNAVAILABLE',
        `memory ${bytes} is more than this runner has for all sandboxes, ${most}`,
      );
    if (most > 0 && this.#memoryBytes + bytes > most)
      throw new OutriderError('RUNNER_BUSY', "the runner's memory is in use", {
        retryAfterMs: RETRY_AFTER_MS,
      });
    this.#memoryBytes += bytes;
    return once(() => {
      this.#memoryBytes -= bytes;
    });
  }

  #assertOwned(owner: string, most: number): void {
    if ((this.#owned.get(owner) ?? 0) < most) return;
    throw new OutriderError('QUOTA_EXCEEDED', `${most} programs of yours run already`, {
      retryAfterMs: RETRY_AFTER_MS,
    });
  }

  #count(owner: string): () => void {
    this.#owned.set(owner, (this.#owned.get(owner) ?? 0) + 1);
    return () => {
      const left = (this.#owned.get(owner) ?? 1) - 1;
      if (left > 0) this.#owned.set(owner, left);
      else this.#owned.delete(owner);
    };
  }
}

function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    act();
  };
}
