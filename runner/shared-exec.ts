import { OutriderError } from '#core/errors';
import { textBytes } from './ended-execs.ts';
import type { Exec, ExecEvent } from './exec.ts';
import type { ExecFacts } from './exec-facts.ts';
import { OutputHistory } from './output-history.ts';
import type { Started } from './runner.ts';

/** What is kept of each stream for calls that come later; all that an answer of Run can hold. */
const KEEP_BYTES = 2 ** 20;
/** How far a call may be behind before the program waits for it. */
const BEHIND_MAX_BYTES = 256 * 1024;
/** What an event weighs beside its data. */
const EVENT_BYTES = 256;

interface Listener {
  readonly signal: AbortSignal;
  readonly queue: ExecEvent[];
  bytes: number;
  wake: () => void;
}

export interface Begun {
  readonly facts: ExecFacts;
  /** Undefined once it has ended: its sandbox must not be held for those who come later. */
  readonly exec: Exec | undefined;
}

/** One of the calls that share an exec. */
export interface Shared {
  /** Rejects with what kept the exec from starting. */
  readonly begun: Promise<Begun>;
  /**
   * What is kept of the output, then what follows, then the end.
   * @throws {OutriderError} EXEC_NOT_FOUND where nothing is kept any more, and the signal's reason once it is aborted
   */
  readonly events: AsyncGenerator<ExecEvent, void, undefined>;
}

/**
 * One exec for any number of calls. It goes on as long as one of them is there: the last that leaves ends it, by its own reason.
 * The slowest sets the pace. The newest 1 MiB of each stream is kept for calls that come later, also after the end.
 */
export class SharedExec {
  /** Resolves after the end, rejects where the exec could not start. */
  readonly ended: Promise<void>;
  readonly #abort = new AbortController();
  readonly #listeners = new Set<Listener>();
  readonly #history: Record<'stdout' | 'stderr', OutputHistory>;
  #begun: Promise<Begun>;
  #end: (ExecEvent & { kind: 'end' }) | undefined;
  #shed = false;
  #execId = '';
  #progressed: () => void = () => {};

  /** `start` is given the signal that ends the exec. */
  constructor(start: (signal: AbortSignal) => Promise<Started>, keepBytes = KEEP_BYTES) {
    this.#history = {
      stdout: new OutputHistory(keepBytes),
      stderr: new OutputHistory(keepBytes),
    };
    const started = start(this.#abort.signal);
    this.#begun = started;
    this.ended = started.then((given) => this.#pump(given));
    this.ended.catch(() => {}); // whoever waits for the start is told
  }

  /** Bytes that are kept. */
  get bytes(): number {
    const { stdout, stderr } = this.#history;
    return stdout.bytes + stderr.bytes + (this.#end ? sizeOf(this.#end) : 0);
  }

  /** Counts this call in at once, until its signal is aborted or its events have been read to their end. */
  join(signal: AbortSignal): Shared {
    const listener: Listener = { signal, queue: [], bytes: 0, wake: () => {} };
    this.#listeners.add(listener);
    for (const stream of ['stdout', 'stderr'] as const)
      for (const chunk of this.#history[stream].chunks())
        give(listener, { kind: 'chunk', stream, chunk });
    if (this.#end) give(listener, this.#end);
    signal.addEventListener('abort', () => this.#leave(listener), { once: true });
    if (signal.aborted) this.#leave(listener);
    return { begun: this.#begun, events: this.#read(listener) };
  }

  /** Forgets what is kept of an exec that has ended. */
  shed(): void {
    this.#shed = true;
    this.#history.stdout.clear();
    this.#history.stderr.clear();
    this.#end = undefined;
  }

  async *#read(listener: Listener): AsyncGenerator<ExecEvent, void, undefined> {
    try {
      for (;;) {
        if (listener.signal.aborted) throw reasonOf(listener.signal);
        const next = listener.queue.shift();
        if (next) {
          listener.bytes -= sizeOf(next);
          this.#progressed();
          yield next;
          if (next.kind === 'end') return;
        } else if (this.#shed) throw this.#forgotten();
        else
          await new Promise<void>((resolve) => {
            listener.wake = resolve;
          });
      }
    } finally {
      this.#leave(listener);
    }
  }

  #leave(listener: Listener): void {
    if (!this.#listeners.delete(listener)) return;
    listener.wake();
    this.#progressed();
    if (this.#listeners.size === 0) this.#abort.abort(reasonOf(listener.signal)); // an exec that has ended does not mind
  }

  async #pump({ events, facts }: Started): Promise<void> {
    this.#execId = facts.execId;
    for await (const event of events) {
      if (event.kind === 'end') this.#end = event;
      else this.#history[event.stream].push(event.chunk);
      for (const listener of this.#listeners) give(listener, event);
      while (!this.#end && [...this.#listeners].some(({ bytes }) => bytes > BEHIND_MAX_BYTES))
        await new Promise<void>((resolve) => {
          this.#progressed = resolve;
        });
    }
    this.#history.stdout.finish();
    this.#history.stderr.finish();
    this.#begun = Promise.resolve({ facts, exec: undefined });
  }

  #forgotten(): OutriderError {
    return new OutriderError(
      'EXEC_NOT_FOUND',
      `the result of this key is no longer kept; GetExec tells how ${this.#execId} ended`,
    );
  }
}

function give(listener: Listener, event: ExecEvent): void {
  listener.queue.push(event);
  listener.bytes += sizeOf(event);
  listener.wake();
}

function sizeOf(event: ExecEvent): number {
  if (event.kind === 'chunk') return event.chunk.data.length + EVENT_BYTES;
  return event.ending.artefacts.reduce(
    (sum, { content }) => sum + content.length,
    EVENT_BYTES + textBytes(event.ending),
  );
}

function reasonOf(signal: AbortSignal): unknown {
  return signal.aborted ? signal.reason : new OutriderError('CANCELLED', 'the caller went away');
}
