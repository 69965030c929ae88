/** How fast the memory of a rush fades: after so long half of it counts. */
const HALF_LIFE_MS = 30_000;
const SAMPLES = 0.25;

/**
 * How many sandboxes of one shape are needed in stock: the most that were asked for within the time that replacing one takes,
 * lately. A steady stream of λ a second with a replacement time of r seconds needs λ·r; a rush needs as many as it had.
 */
export class Demand {
  #makeMs: number;
  #heldMs = 0;
  #recent: number[] = [];
  #peak = 0;
  #peakAt = 0;

  /** `makeMs` is a first guess at what making one takes. */
  constructor(makeMs: number) {
    this.#makeMs = makeMs;
  }

  /** One was asked for. */
  claimed(nowMs: number): void {
    this.#recent = this.#recent.filter((at) => nowMs - at < this.#heldMs + this.#makeMs);
    this.#recent.push(nowMs);
    this.#peak = Math.max(this.#faded(nowMs), this.#recent.length);
    this.#peakAt = nowMs;
  }

  /** The replacement of one that was taken was put off for so long. */
  held(tookMs: number): void {
    this.#heldMs += (tookMs - this.#heldMs) * SAMPLES;
  }

  /** One was made, which took so long. */
  made(tookMs: number): void {
    this.#makeMs += (tookMs - this.#makeMs) * SAMPLES;
  }

  /** How many should be waiting now; a fraction of one that is nearly forgotten counts as none. */
  stock(nowMs: number): number {
    return Math.round(this.#faded(nowMs));
  }

  #faded(nowMs: number): number {
    return this.#peak * 0.5 ** ((nowMs - this.#peakAt) / HALF_LIFE_MS);
  }
}
