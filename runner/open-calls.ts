import { OutriderError } from '#core/errors';

/**
 * How many calls of Run and Exec each owner has open. A call is open until its answer has been taken, which may be long after its
 * program's end: what is written and not read stays in this process, a few MiB of each.
 */
export class OpenCalls {
  readonly #most: number;
  readonly #open = new Map<string, number>();

  /** `most` of one owner at one time. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Counts a call until `over` is aborted. @throws {OutriderError} QUOTA_EXCEEDED */
  enter(owner: string, over: AbortSignal): void {
    const open = this.#open.get(owner) ?? 0;
    if (open >= this.#most)
      throw new OutriderError(
        'QUOTA_EXCEEDED',
        `${open} calls of yours are open: read their answers to the end, or cancel them`,
        { retryAfterMs: 1_000 },
      );
    if (over.aborted) return;
    this.#open.set(owner, open + 1);
    over.addEventListener('abort', () => this.#leave(owner), { once: true });
  }

  #leave(owner: string): void {
    const left = (this.#open.get(owner) ?? 1) - 1;
    if (left > 0) this.#open.set(owner, left);
    else this.#open.delete(owner);
  }
}
