import { toOutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { SandboxShape } from './role-limits.ts';
import type { Sandbox } from './sandbox.ts';

/** How long a refill waits after a claim, so that the claimed sandbox's first byte goes out before. */
const REFILL_DELAY_MS = 20;
const RETRY_MAX_MS = 30_000;

export interface PoolOptions {
  readonly size: number;
  readonly create: (shape: SandboxShape) => Promise<Sandbox>;
  readonly log: Logger;
  readonly onChange: (warm: number) => void;
}

/** Started, rehearsed, unused sandboxes of the shapes that are asked for (D3). Each is handed out once. */
export class WarmPool {
  readonly #options: PoolOptions;
  readonly #shelves = new Map<
    string,
    { shape: SandboxShape; ready: Sandbox[]; making: number; failures: number }
  >();
  readonly #making = new Set<Promise<void>>();
  #closed = false;
  #problem: string | undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** Keeps `size` sandboxes of this shape from now on. */
  keep(shape: SandboxShape): void {
    const key = JSON.stringify(shape);
    if (!this.#shelves.has(key))
      this.#shelves.set(key, { shape, ready: [], making: 0, failures: 0 });
    this.#refill(key);
  }

  /** A sandbox that nobody has used: a warm one where there is one, otherwise made now. */
  async claim(shape: SandboxShape): Promise<{ sandbox: Sandbox; warm: boolean }> {
    const key = JSON.stringify(shape);
    const shelf = this.#shelves.get(key);
    setTimeout(() => this.#refill(key), REFILL_DELAY_MS).unref();
    for (let next = shelf?.ready.shift(); next; next = shelf?.ready.shift()) {
      if (!next.alive) continue;
      this.#changed();
      return { sandbox: next, warm: true };
    }
    return { sandbox: await this.#options.create(shape), warm: false };
  }

  /** What keeps warm sandboxes from being made, since the last that could; undefined where nothing does. */
  get problem(): string | undefined {
    return this.#problem;
  }

  get warm(): number {
    return [...this.#shelves.values()].reduce((sum, shelf) => sum + shelf.ready.length, 0);
  }

  /** Ends every waiting sandbox, also those in the making. */
  async close(): Promise<void> {
    this.#closed = true;
    const waiting = [...this.#shelves.values()].flatMap((shelf) => shelf.ready.splice(0));
    await Promise.all([...waiting.map((sandbox) => sandbox.end()), ...this.#making]);
  }

  #refill(key: string): void {
    const shelf = this.#shelves.get(key);
    if (!shelf || this.#closed || shelf.ready.length + shelf.making >= this.#options.size) return;
    shelf.making += 1;
    const making: Promise<void> = this.#options.create(shelf.shape).then(
      (sandbox) => {
        shelf.making -= 1;
        shelf.failures = 0;
        this.#problem = undefined;
        if (this.#closed) return sandbox.end();
        shelf.ready.push(sandbox);
        void sandbox.ended.then(() => {
          const at = shelf.ready.indexOf(sandbox);
          if (at < 0) return; // claimed
          shelf.ready.splice(at, 1);
          this.#changed();
          setTimeout(() => this.#refill(key), REFILL_DELAY_MS).unref();
        });
        this.#changed();
        this.#refill(key);
        return undefined;
      },
      (error: unknown) => {
        shelf.making -= 1;
        shelf.failures += 1;
        if (this.#closed) return undefined;
        this.#problem = toOutriderError(error).message;
        this.#options.log.error('a warm sandbox could not be made', { error });
        setTimeout(
          () => this.#refill(key),
          Math.min(RETRY_MAX_MS, 100 * 2 ** shelf.failures),
        ).unref();
        return undefined;
      },
    );
    this.#making.add(making);
    void making.finally(() => this.#making.delete(making));
  }

  #changed(): void {
    this.#options.onChange(this.warm);
  }
}
