/**
 * Sums, by a label's value, that the metrics take over when somebody asks for them: what happens at every request costs an addition.
 */
export class Tally {
  readonly #sums = new Map<string, number>();

  add(count: number, value = ''): void {
    this.#sums.set(value, (this.#sums.get(value) ?? 0) + count);
  }

  /** What was added since the last time. */
  take(): readonly (readonly [string, number])[] {
    const sums = [...this.#sums];
    for (const [value] of sums) this.#sums.set(value, 0);
    return sums;
  }
}
