interface Waiting {
  readonly serve: () => void;
  /** Whether all of the request has been read. */
  readonly isWhole: () => boolean;
}

/**
 * The requests of one connection, each after the answer to the one before it: only safe ones may be served at once (RFC 9112, 9.3.2), and
 * whoever sends many together would get ahead of all who share the process.
 */
export class Turns {
  readonly #waiting: Waiting[] = [];
  #busy = false;

  /** Whether an answer is still to come. */
  get busy(): boolean {
    return this.#busy;
  }

  /** How many requests have come and not been answered. */
  get size(): number {
    return this.#waiting.length + (this.#busy ? 1 : 0);
  }

  /** Calls `serve` at once, or when the turn is its own. Whoever is called says `over` when the answer is out. */
  take(serve: () => void, isWhole: () => boolean): void {
    if (this.#busy) {
      this.#waiting.push({ serve, isWhole });
      return;
    }
    this.#busy = true;
    serve();
  }

  over(): void {
    const next = this.#waiting.shift();
    this.#busy = next !== undefined;
    next?.serve();
  }

  /** What waits is never served. */
  clear(): void {
    this.#waiting.length = 0;
  }

  /** The same of a request that has not been read to its end, and never will be. Whether there was one. */
  dropUnfinished(): boolean {
    const dropped = this.#waiting.at(-1)?.isWhole() === false;
    if (dropped) this.#waiting.pop();
    return dropped;
  }
}
