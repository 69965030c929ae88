import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { OutriderError } from '#core/errors';

/** One process of the mesh. */
export interface PartPlan {
  readonly name: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Undefined when it is ready, otherwise what it waits for. */
  readonly ready: () => Promise<string | undefined>;
}

export interface SupervisorOptions {
  /** argv of the `outrider` command. */
  readonly self: readonly string[];
  /** Takes one line of a part's stderr. */
  readonly print: (part: string, line: string) => void;
}

/** Only against hanging: a part that cannot start ends, and is told at once. */
const READY_TIMEOUT_MS = 90_000;
const POLL_MS = 25;
const PATIENCE_MS = 5_000;
const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 10_000;
/** A part that ran this long gets the first back-off again. */
const STABLE_MS = 30_000;
const STOP_TIMEOUT_MS = 40_000;

/**
 * Starts parts in order, restarts with back-off one that ends, and stops all in reverse order. A part that ends before the mesh
 * was ready for the first time ends the mesh: something is wrong that a restart does not mend.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #parts: Running[] = [];
  #stopping = false;
  #everReady = false;
  #fail: (error: Error) => void = () => {};

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Starts everything and resolves when all are ready. @throws {OutriderError} with the first part that could not start; CANCELLED where `stop` came first */
  async start(plans: readonly PartPlan[]): Promise<void> {
    const failed = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    failed.catch(() => {});
    for (const plan of plans) {
      const part = new Running(plan, this.#options, (ran) => this.#onExit(part, ran));
      this.#parts.push(part);
      part.spawn();
    }
    await Promise.race([
      failed,
      Promise.all(plans.map((plan) => untilReady(plan, () => this.#stopping, this.#options.print))),
    ]);
    this.#everReady = true;
  }

  /** Ends the parts, last started first, each before the next. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#fail(new OutriderError('CANCELLED', 'stopped before everything was ready'));
    for (const part of this.#parts.toReversed()) await part.stop();
  }

  #onExit(part: Running, ran: { code: number | null; signal: string | null; ms: number }): void {
    if (this.#stopping) return;
    const how = ran.signal === null ? `exit code ${String(ran.code)}` : `signal ${ran.signal}`;
    if (!this.#everReady) {
      this.#fail(
        new OutriderError(
          'CONFIG_INVALID',
          `${part.plan.name} could not start (${how}): the lines above say why`,
        ),
      );
      return;
    }
    const waitMs = part.backoff(ran.ms);
    this.#options.print(part.plan.name, `ended with ${how}; starting it again in ${waitMs} ms`);
    setTimeout(() => {
      if (!this.#stopping) part.spawn();
    }, waitMs);
  }
}

class Running {
  readonly plan: PartPlan;
  readonly #options: SupervisorOptions;
  readonly #onExit: (ran: { code: number | null; signal: string | null; ms: number }) => void;
  #child: ChildProcess | undefined;
  #failures = 0;

  constructor(plan: PartPlan, options: SupervisorOptions, onExit: Running['onExit']) {
    this.plan = plan;
    this.#options = options;
    this.#onExit = onExit;
  }

  get onExit() {
    return this.#onExit;
  }

  spawn(): void {
    const { plan, self } = { plan: this.plan, self: this.#options.self };
    const [program = '', ...words] = [...self, ...plan.argv];
    const startedAt = Date.now();
    // Its own process group: a terminal's Ctrl-C is for the supervisor alone. The pipe to stdin ends it should the supervisor die.
    const child = spawn(program, words, {
      env: { ...plan.env, OUTRIDER_SUPERVISED: '1' },
      stdio: ['pipe', 'ignore', 'pipe'],
      detached: true,
    });
    this.#child = child;
    if (child.stderr)
      createInterface({ input: child.stderr }).on('line', (line) =>
        this.#options.print(plan.name, line),
      );
    let told = false;
    const over = (code: number | null, signal: string | null) => {
      if (told) return;
      told = true;
      this.#onExit({ code, signal, ms: Date.now() - startedAt });
    };
    child.once('error', () => over(1, null));
    child.once('exit', over);
  }

  backoff(ranMs: number): number {
    this.#failures = ranMs > STABLE_MS ? 0 : this.#failures + 1;
    return Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.max(0, this.#failures - 1));
  }

  stop(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null || child.pid === undefined)
      return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      child.once('exit', () => {
        clearTimeout(timer);
        resolve();
      });
      child.kill('SIGTERM');
    });
  }
}

/** What keeps a part from being ready is said once it has taken longer than a start does, and whenever it is another. */
async function untilReady(
  { name, ready }: PartPlan,
  stopping: () => boolean,
  print: SupervisorOptions['print'],
): Promise<void> {
  const startedAt = Date.now();
  let said: string | undefined;
  while (!stopping()) {
    const problem = await ready();
    if (problem === undefined) return;
    const waited = Date.now() - startedAt;
    if (waited > PATIENCE_MS && problem !== said) {
      print(name, `is not ready yet: ${problem}`);
      said = problem;
    }
    if (waited > READY_TIMEOUT_MS)
      throw new OutriderError('CONFIG_INVALID', `${name} did not become ready: ${problem}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
