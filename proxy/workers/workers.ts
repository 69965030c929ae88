import cluster, { type Worker as Process } from 'node:cluster';
import { OutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { MetricsSnapshot } from '#core/metrics';
import { sumOfCounters } from '#core/metrics';
import { Channel } from './channel.ts';
import type { Begin, PrimaryDoor, Status, WorkerDoor } from './doors.ts';

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 10_000;
/** One that ran this long gets the first back-off again. */
const STABLE_MS = 30_000;
/** Draining takes some seconds; what hangs then is killed. */
const STOP_MS = 20_000;
/** What /readyz and /metrics wait for one worker. */
const ANSWER_MS = 1_500;

/** What the primary answers one worker, but for what this list knows by itself; `end` is called when the worker has ended. */
export interface Attendant extends Omit<PrimaryDoor, 'started' | 'failed'> {
  readonly end: () => void;
}

export interface WorkersOptions {
  readonly count: number;
  readonly log: Logger;
  /** Who answers this worker from its start to its end; `usedUp` reaches it. */
  readonly attend: (
    worker: Pick<Begin, 'number' | 'again'>,
    usedUp: WorkerDoor['usedUp'],
  ) => Attendant;
  readonly onRestart?: () => void;
}

/** The processes that serve, each started again with back-off when it ends. */
export class Workers {
  readonly #options: WorkersOptions;
  readonly #places: Place[];
  #ending = false;
  /** What workers that have ended had counted. */
  #past: MetricsSnapshot = [];

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#places = Array.from(
      { length: options.count },
      (_, at) => new Place(at + 1, options, (place) => this.#onEnd(place)),
    );
  }

  /** How many serve now. */
  get ready(): number {
    return this.#places.filter(({ ready }) => ready).length;
  }

  /** Resolves to the address when all serve: the first alone, since what it cannot do none can. @throws {OutriderError} what a worker could not do */
  async start(): Promise<string> {
    cluster.schedulingPolicy = cluster.SCHED_RR;
    // Its stdin is nobody's: of a supervised part it says that the supervisor is gone, which is for the primary alone.
    cluster.setupPrimary({ stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const [first, ...others] = this.#places;
    const address = (await first?.start()) ?? '';
    await Promise.all(others.map((place) => place.start()));
    return address;
  }

  /** What each says that serves, within bounded time. */
  async statuses(): Promise<readonly (Status & { readonly number: number })[]> {
    const late: Status = { problems: { workers: 'one does not answer' }, info: {} };
    return Promise.all(
      this.#places
        .filter(({ ready }) => ready)
        .map(async (place) => ({
          number: place.number,
          ...(await place.ask((channel) => channel.ask('status', null)).catch(() => late)),
        })),
    );
  }

  /** The metrics of each, and of those that have ended what they had counted; of one that does not answer in time as it was before. */
  async metrics(): Promise<readonly MetricsSnapshot[]> {
    await Promise.all(this.#places.map((place) => place.measure()));
    return [this.#past, ...this.#places.map(({ measured }) => measured)];
  }

  /** Lets all end in order, together. */
  async stop(): Promise<void> {
    this.#ending = true;
    await Promise.all(this.#places.map((place) => place.stop()));
  }

  #onEnd(place: Place): void {
    const { measured } = place;
    place.measured = [];
    this.#past = sumOfCounters([this.#past, measured]);
    if (this.#ending || !place.hasServed) return;
    this.#options.onRestart?.();
    const waitMs = place.backoff();
    this.#options.log.warn('a worker has ended and is started again', {
      detail: { worker: place.number, waitMs },
    });
    setTimeout(() => {
      if (!this.#ending) place.start().catch(() => {}); // its own log says why
    }, waitMs).unref();
  }
}

/** Where one worker is, and after its end the next. */
class Place {
  readonly number: number;
  ready = false;
  /** One that never has cannot: a restart would not mend it. */
  hasServed = false;
  measured: MetricsSnapshot = [];
  readonly #options: WorkersOptions;
  readonly #onEnd: (place: Place) => void;
  #process: Process | undefined;
  #channel: Channel<PrimaryDoor, WorkerDoor> | undefined;
  #startedAtMs = 0;
  #failures = 0;

  constructor(number: number, options: WorkersOptions, onEnd: (place: Place) => void) {
    this.number = number;
    this.#options = options;
    this.#onEnd = onEnd;
  }

  /** Resolves to its address when it serves. @throws {OutriderError} what it could not do */
  start(): Promise<string> {
    this.#startedAtMs = performance.now();
    return new Promise((resolve, reject) => {
      const worker = this.#fork();
      if (!worker) {
        reject(new OutriderError('INTERNAL', 'a worker could not start'));
        return this.#onEnd(this);
      }
      let failure = new OutriderError(
        'INTERNAL',
        'a worker could not start: the lines above say why',
      );
      const { end, ...attendant } = this.#options.attend(
        { number: this.number, again: this.hasServed },
        (ids) => channel.tell('usedUp', ids),
      );
      const channel: Channel<PrimaryDoor, WorkerDoor> = new Channel(
        {
          send: (messages) =>
            void worker.process.send?.([...messages], undefined, undefined, () => {}),
          onMessages: (take) => void worker.on('message', take),
        },
        {
          ...attendant,
          started: (address) => {
            this.ready = true;
            this.hasServed = true;
            resolve(address);
          },
          failed: ({ code, message }) => {
            failure = new OutriderError(code, message);
          },
        },
      );
      let over = false;
      const ended = (): void => {
        if (over) return;
        over = true;
        this.ready = false;
        channel.close();
        end();
        reject(failure);
        this.#onEnd(this);
      };
      this.#process = worker;
      this.#channel = channel;
      worker.once('exit', ended);
      // One for each piece that was under way to it: without a listener the second would end the primary.
      worker.on('error', () => {
        if (over) return;
        ended();
        worker.process.kill('SIGKILL');
      });
    });
  }

  /** Undefined where this machine has no room for another process now. */
  #fork(): Process | undefined {
    try {
      return cluster.fork({ OUTRIDER_SUPERVISED: '' });
    } catch {
      return undefined;
    }
  }

  /** Its answer, within bounded time. */
  async ask<T>(question: (channel: Channel<PrimaryDoor, WorkerDoor>) => Promise<T>): Promise<T> {
    const channel = this.#channel;
    if (!channel) throw new Error('it does not run');
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('no answer in time')), ANSWER_MS);
    });
    try {
      return await Promise.race([question(channel), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async measure(): Promise<void> {
    const process = this.#process;
    if (!this.ready) return;
    const measured = await this.ask((channel) => channel.ask('metrics', null)).catch(
      () => undefined,
    );
    if (measured && process === this.#process && this.ready) this.measured = measured;
  }

  backoff(): number {
    const ranMs = performance.now() - this.#startedAtMs;
    this.#failures = ranMs > STABLE_MS ? 0 : this.#failures + 1;
    return Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.max(0, this.#failures - 1));
  }

  async stop(): Promise<void> {
    const worker = this.#process;
    if (!worker || worker.isDead()) return;
    const gone = new Promise<void>((resolve) => void worker.once('exit', () => resolve()));
    worker.process.kill('SIGTERM');
    const late = setTimeout(() => worker.process.kill('SIGKILL'), STOP_MS);
    await gone;
    clearTimeout(late);
  }
}
