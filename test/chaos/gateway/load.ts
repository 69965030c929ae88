import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Outcome, Session } from './session.ts';

const PAUSE_MS = 800;
const OPENING_AT_ONCE = 20;

/** What each session calls, over and over. */
export interface Work {
  readonly tool: string;
  readonly given: Readonly<Record<string, unknown>>;
}

/** Sessions that call and pause, each on its own, until they are told to stop. */
export class Load {
  readonly sessions: readonly Session[];
  readonly #outcomes: Outcome[][];
  readonly #work: Work;
  #running: Promise<unknown> = Promise.resolve();
  #stopped = false;

  constructor(url: URL, count: number, work: Work) {
    this.sessions = Array.from({ length: count }, () => new Session(url));
    this.#outcomes = this.sessions.map(() => []);
    this.#work = work;
  }

  /** Resolves when every session is open and has begun. */
  async start(): Promise<void> {
    for (let at = 0; at < this.sessions.length; at += OPENING_AT_ONCE)
      await Promise.all(this.sessions.slice(at, at + OPENING_AT_ONCE).map((one) => one.open()));
    this.#running = Promise.all(this.sessions.map((session, index) => this.#run(session, index)));
  }

  /** Resolves when the calls under way have ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  /** Every call that has ended. */
  get outcomes(): readonly Outcome[] {
    return this.#outcomes.flat();
  }

  /** How long the longest call of each of `sessions` took that was under way then or began. */
  longest(
    sessions: ReadonlySet<Session>,
    { from: since, to: until }: { readonly from: number; readonly to: number },
  ): readonly number[] {
    return this.#outcomes
      .filter((_, index) => sessions.has(this.sessions[index] ?? assert.fail()))
      .map((calls) => calls.filter(({ from, to }) => to >= since && from <= until))
      .map((calls) => Math.max(...calls.map(({ from, to }) => to - from)));
  }

  /** Sessions of which not one call that began after `since` was answered. */
  deadSince(since: number): number {
    return this.#outcomes.filter(
      (calls) => !calls.some(({ from, problem }) => from > since && problem === undefined),
    ).length;
  }

  async #run(session: Session, index: number): Promise<void> {
    // Not all in step: they would be in flight together or not at all.
    await sleep((PAUSE_MS * index) / this.sessions.length);
    while (!this.#stopped) {
      this.#outcomes[index]?.push(await session.call(this.#work.tool, this.#work.given));
      await sleep(PAUSE_MS);
    }
  }
}
