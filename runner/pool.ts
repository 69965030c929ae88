import { availableParallelism } from 'node:os';
import { OutriderError, toOutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import { Demand } from './demand.ts';
import type { SandboxShape } from './role-limits.ts';
import type { Sandbox } from './sandbox.ts';

/** How long the making of a replacement waits for a program that writes nothing. */
const HELD_MAX_MS = 250;
/** One that died unused is not replaced at once: what ended it may end the next as fast. */
const AFTER_DEATH_MS = 20;
const RETRY_MAX_MS = 30_000;
const TRIM_EVERY_MS = 5_000;
/** A first guess at what making one takes. */
const MAKE_MS = 200;

export interface PoolOptions {
  /** How many are kept of each shape that roles name, however rarely it is asked for. */
  readonly floor: number;
  /** How many are kept of one shape at most, however often it is asked for. */
  readonly ceiling: number;
  /** Makes one; `isAwaited` tells whether there is somebody who waits for it. */
  readonly create: (shape: SandboxShape, isAwaited: () => boolean) => Promise<Sandbox>;
  readonly log: Logger;
  readonly onChange: (warm: number) => void;
}

export interface Claim {
  readonly sandbox: Sandbox;
  /** Whether it was there already. */
  readonly warm: boolean;
}

interface Waiting {
  readonly resolve: (claim: Claim) => void;
  readonly reject: (error: Error) => void;
}

interface Shelf {
  readonly shape: SandboxShape;
  readonly demand: Demand;
  readonly ready: Sandbox[];
  /** Those who asked when nothing was ready, first come first served. */
  readonly waiting: Waiting[];
  kept: boolean;
  making: number;
  /** Handed out, and to be replaced once their programs have been heard of. */
  held: number;
  failures: number;
  /** What keeps it from being made, since the last that could. */
  problem: string | undefined;
  retryAtMs: number;
}

/**
 * Started, rehearsed, unused sandboxes (D3), each handed out once. Between floor and ceiling there are as many of a shape as were
 * lately asked for while one is replaced. What replaces one that was handed out is begun when the first byte of its program has gone
 * out. No more are in the making at one time than the machine has use for; who waits comes first.
 */
export class WarmPool {
  readonly #options: PoolOptions;
  readonly #shelves = new Map<string, Shelf>();
  readonly #making = new Set<Promise<void>>();
  readonly #makers = 2 * availableParallelism();
  readonly #trim: NodeJS.Timeout;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#trim = setInterval(() => this.#trimAll(), TRIM_EVERY_MS).unref();
  }

  /** From now on these shapes, and no others, are kept ready however rarely they are asked for. */
  keep(shapes: readonly SandboxShape[]): void {
    for (const shelf of this.#shelves.values()) shelf.kept = false;
    for (const shape of shapes) this.#shelf(shape).kept = true;
    this.#trimAll();
    this.#refill();
  }

  /** A sandbox that nobody has used. @throws {OutriderError} DRAINING, and what making one throws */
  async claim(shape: SandboxShape): Promise<Claim> {
    if (this.#closed) throw new OutriderError('DRAINING', 'the runner is stopping');
    const shelf = this.#shelf(shape);
    shelf.demand.claimed(performance.now());
    for (let next = shelf.ready.shift(); next; next = shelf.ready.shift()) {
      if (!next.alive) continue;
      this.#hold(shelf, next);
      this.#changed();
      return { sandbox: next, warm: true };
    }
    const claim = new Promise<Claim>((resolve, reject) => {
      shelf.waiting.push({ resolve, reject });
    });
    this.#refill();
    return claim;
  }

  /** What keeps every shape that is kept from being made, since the last that could; undefined where one can. */
  get problem(): string | undefined {
    const kept = [...this.#shelves.values()].filter((shelf) => shelf.kept);
    return kept.every(({ problem }) => problem !== undefined) ? kept[0]?.problem : undefined;
  }

  /** The same of each profile that has a shape which cannot be made. */
  get problems(): Readonly<Record<string, string>> {
    const kept = [...this.#shelves.values()].filter((shelf) => shelf.kept);
    return Object.fromEntries(
      kept.flatMap(({ shape, problem }) =>
        problem === undefined ? [] : [[shape.profile, problem]],
      ),
    );
  }

  get warm(): number {
    return this.warmOf(() => true);
  }

  /** How many are ready of the shapes that are meant. */
  warmOf(meant: (shape: SandboxShape) => boolean): number {
    return [...this.#shelves.values()]
      .filter(({ shape }) => meant(shape))
      .reduce((sum, { ready }) => sum + ready.length, 0);
  }

  /** Ends every waiting sandbox, also those in the making. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#trim);
    const shelves = [...this.#shelves.values()];
    for (const { reject } of shelves.flatMap(({ waiting }) => waiting.splice(0)))
      reject(new OutriderError('DRAINING', 'the runner is stopping'));
    const ready = shelves.flatMap((shelf) => shelf.ready.splice(0));
    await Promise.all([...ready.map((sandbox) => sandbox.end()), ...this.#making]);
  }

  #shelf(shape: SandboxShape): Shelf {
    const key = JSON.stringify(shape);
    const known = this.#shelves.get(key);
    if (known) return known;
    const made: Shelf = {
      shape,
      demand: new Demand(MAKE_MS),
      ready: [],
      waiting: [],
      kept: false,
      making: 0,
      held: 0,
      failures: 0,
      problem: undefined,
      retryAtMs: 0,
    };
    this.#shelves.set(key, made);
    return made;
  }

  #target({ demand, kept }: Shelf): number {
    const { floor, ceiling } = this.#options;
    // A shape that no role names is a caller's wish: were it kept, callers could fill the machine with their wishes.
    return kept ? Math.min(ceiling, Math.max(floor, demand.stock(performance.now()))) : 0;
  }

  /** Starts making what is missing, first for those who wait, then shelf by shelf in turns. */
  #refill(): void {
    const shelves = [...this.#shelves.values()];
    const waitsMost = (shelf: Shelf) => shelf.waiting.length - shelf.making;
    while (!this.#closed && this.#making.size < this.#makers) {
      const nowMs = performance.now();
      const next =
        shelves.find((shelf) => waitsMost(shelf) > 0) ??
        shelves
          .filter(({ retryAtMs }) => retryAtMs <= nowMs)
          .filter((shelf) => shelf.ready.length + shelf.making + shelf.held < this.#target(shelf))
          .toSorted((a, b) => a.ready.length + a.making - b.ready.length - b.making)[0];
      if (!next) return;
      this.#make(next);
    }
  }

  /** Until its program has been heard of, the machine is for that one and not for making the next. */
  #hold(shelf: Shelf, sandbox: Sandbox): void {
    const from = performance.now();
    shelf.held += 1;
    void heardOf(sandbox).then(() => {
      shelf.held -= 1;
      shelf.demand.held(performance.now() - from);
      this.#refill();
    });
  }

  #refillLater(afterMs: number): void {
    setTimeout(() => this.#refill(), afterMs).unref();
  }

  #make(shelf: Shelf): void {
    const from = performance.now();
    shelf.making += 1;
    const making = this.#options
      .create(shelf.shape, () => shelf.waiting.length > 0)
      .then(
        (sandbox) => {
          shelf.demand.made(performance.now() - from);
          shelf.failures = 0;
          shelf.problem = undefined;
          return this.#store(shelf, sandbox);
        },
        (error: unknown) => this.#failed(shelf, error),
      );
    const done = making.finally(() => {
      shelf.making -= 1;
      this.#making.delete(done);
      this.#refill();
    });
    this.#making.add(done);
  }

  #store(shelf: Shelf, sandbox: Sandbox): Promise<void> | undefined {
    if (this.#closed) return sandbox.end();
    const first = shelf.waiting.shift();
    if (first) {
      this.#hold(shelf, sandbox);
      first.resolve({ sandbox, warm: false });
      return undefined;
    }
    shelf.ready.push(sandbox);
    void sandbox.ended.then(() => {
      const at = shelf.ready.indexOf(sandbox);
      if (at < 0) return; // claimed
      shelf.ready.splice(at, 1);
      this.#changed();
      this.#refillLater(AFTER_DEATH_MS);
    });
    this.#changed();
    return undefined;
  }

  #failed(shelf: Shelf, thrown: unknown): void {
    const error = toOutriderError(thrown);
    const first = shelf.waiting.shift();
    if (first) {
      first.reject(error);
      return;
    }
    if (this.#closed) return;
    shelf.failures += 1;
    shelf.problem = error.message;
    this.#options.log.error('a warm sandbox could not be made', { error });
    const againMs = Math.min(RETRY_MAX_MS, 100 * 2 ** shelf.failures);
    shelf.retryAtMs = performance.now() + againMs;
    this.#refillLater(againMs + 1);
  }

  /** Ends what is more than needed now, the oldest first, and forgets shapes that nobody asks for any more. */
  #trimAll(): void {
    for (const [key, shelf] of this.#shelves) {
      const target = this.#target(shelf);
      const surplus = shelf.ready.splice(0, Math.max(0, shelf.ready.length - target));
      for (const sandbox of surplus) void sandbox.end();
      if (surplus.length > 0) this.#changed();
      if (target === 0 && shelf.making + shelf.waiting.length === 0) this.#shelves.delete(key);
    }
  }

  #changed(): void {
    this.#options.onChange(this.warm);
  }
}

/** Resolves when the first program of a sandbox has written something or ended, or has done neither for a while. */
async function heardOf({ answered, ended }: Sandbox): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, HELD_MAX_MS).unref();
  });
  await Promise.race([answered, ended, late]);
  clearTimeout(timer);
}
