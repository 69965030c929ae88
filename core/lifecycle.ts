import type { Logger } from './log.ts';

/** Something to undo at the end: close a server, end a child, remove a socket. */
export interface Stop {
  readonly name: string;
  readonly stop: () => Promise<void> | void;
}

/**
 * What was started, ended in reverse order and once. A step that fails or takes longer than `stepTimeoutMs` (default 10 s)
 * is reported and does not keep the others from running.
 */
export class Lifecycle {
  readonly #stops: Stop[] = [];
  readonly #log: Logger;
  readonly #stepTimeoutMs: number;
  #stopping: Promise<void> | undefined;

  constructor(log: Logger, stepTimeoutMs = 10_000) {
    this.#log = log;
    this.#stepTimeoutMs = stepTimeoutMs;
  }

  get stopping(): boolean {
    return this.#stopping !== undefined;
  }

  /** Registers a step; runs it at once when the end has already begun. */
  add(name: string, stop: Stop['stop']): void {
    if (this.#stopping) void this.#run({ name, stop });
    else this.#stops.push({ name, stop });
  }

  /** Runs every step, last registered first. Later calls wait for the first. Never rejects. */
  stop(): Promise<void> {
    this.#stopping ??= this.#runAll();
    return this.#stopping;
  }

  async #runAll(): Promise<void> {
    for (let next = this.#stops.pop(); next; next = this.#stops.pop()) await this.#run(next);
  }

  async #run({ name, stop }: Stop): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`${name} did not stop in ${this.#stepTimeoutMs} ms`)),
        this.#stepTimeoutMs,
      );
    });
    try {
      await Promise.race([stop(), late]);
    } catch (error) {
      this.#log.warn('a part did not stop cleanly', { error, detail: { step: name } });
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A launcher and a terminal may both deliver what a person sent once. */
const SAME_SIGNAL_MS = 1_000;

/**
 * Runs `stop` at the first SIGINT or SIGTERM and resolves after it; a second signal, at least a second later, ends the process at
 * once (128 + number). `early` ends it without a signal. Only a `main.ts` and the supervisor call this.
 */
export function untilSignal(
  stop: () => Promise<void>,
  early: Promise<unknown> = new Promise(() => {}),
): Promise<void> {
  return new Promise((resolve) => {
    let endingSince: number | undefined;
    const end = (signal?: NodeJS.Signals) => {
      const now = performance.now();
      if (endingSince === undefined) {
        endingSince = now;
        void stop().then(resolve);
      } else if (signal && now - endingSince > SAME_SIGNAL_MS)
        process.exit(signal === 'SIGINT' ? 130 : 143);
    };
    process.on('SIGINT', end);
    process.on('SIGTERM', end);
    void early.then(() => end());
  });
}

/** Where SIGHUP makes nothing be read again it says that the terminal has gone, or that somebody hoped for that: the process ends as at SIGTERM. */
export function endAtHangUp(): void {
  process.on('SIGHUP', () => process.kill(process.pid, 'SIGTERM'));
}
