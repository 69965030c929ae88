import { createHash } from 'node:crypto';
import { type ErrorCode, OutriderError } from '#core/errors';
import type { Caller } from './callers.ts';
import type { ExecAsk } from './exec-ask.ts';
import { Idempotency, KEEP_MS, type Once } from './idempotency.ts';
import type { ExecJournal, NotedExec } from './journal.ts';
import type { Runner, Started } from './runner.ts';
import { type Begun, type Shared, SharedExec } from './shared-exec.ts';

interface Joinable extends Once {
  join(signal: AbortSignal): Shared;
}

/** An exec as one call has it. */
export interface Attached extends Begun {
  readonly events: Started['events'];
  /** Whether this call began it: only that one feeds its stdin. */
  readonly first: boolean;
}

/** Starts execs: those with an idempotency key once, for all calls that come with it. */
export class SharedRuns {
  readonly #runner: Runner;
  readonly #once = new Idempotency<Joinable>();

  /** What the journal tells of an earlier life is not begun again. */
  constructor(runner: Runner, journal: Pick<ExecJournal, 'lost' | 'lostEarlier' | 'ended'>) {
    this.#runner = runner;
    const earlier = journal.lostEarlier.filter(({ at }) => at > Date.now() - KEEP_MS);
    for (const exec of [...earlier.map((one) => one.exec), ...journal.lost])
      this.#remember(exec, 'EXEC_LOST', `the runner restarted while ${exec.execId} ran`);
    for (const exec of journal.ended)
      this.#remember(exec, 'EXEC_NOT_FOUND', 'the result of this key was lost by a restart');
  }

  /**
   * `what` is what was asked, so that the key cannot stand for anything else.
   * @throws {OutriderError} what `Runner.exec`, `Idempotency.take` and `SharedExec` throw; EXEC_LOST
   */
  async begin(caller: Caller, ask: ExecAsk, key: string, what: Uint8Array): Promise<Attached> {
    if (key === '') return { ...(await this.#runner.exec(caller, ask)), first: true };
    const digest = createHash('sha256').update(caller.role).update('\0').update(what).digest('hex');
    const { value, first } = this.#once.take(
      caller.principal,
      key,
      digest,
      () =>
        new SharedExec((signal) =>
          this.#runner.exec(caller, { ...ask, signal, idempotency: { key, digest } }),
        ),
    );
    const { begun, events } = value.join(ask.signal);
    return { ...(await begun), events, first };
  }

  #remember(exec: NotedExec, code: ErrorCode, message: string): void {
    if (!exec.idempotency) return;
    const { key, digest } = exec.idempotency;
    this.#once.remember(exec, key, digest, gone(code, message));
  }
}

/** What cannot be had any more, and is not to be begun again. */
function gone(code: ErrorCode, message: string): Joinable {
  return {
    ended: Promise.resolve(),
    bytes: 0,
    shed: () => {},
    join() {
      const begun = Promise.reject(new OutriderError(code, message));
      begun.catch(() => {}); // the one call that joins is told
      return { begun, events: nothing() };
    },
  };
}

async function* nothing(): AsyncGenerator<never, void, undefined> {}
