import { constants } from 'node:os';
import { type ErrorCode, OutriderError } from '#core/errors';
import { TIMER_MAX_MS } from '#core/timer-max';
import type { StartOrder } from './agent-link.ts';
import type { AgentEnd } from './agent-reports.ts';
import type { Artefact, ArtefactStore } from './artefacts.ts';
import type { BoxCounters } from './backends/backend.ts';
import { OutputAccount, type OutputChunk } from './output.ts';
import { outputPassed } from './output-garbage.ts';
import type { Sandbox } from './sandbox.ts';
import type { Binding, DeniedEvent, EgressAccount } from './sidecar-link.ts';
import { OPAQUE_ENV, TRUST_ENV, writeTrust } from './trust.ts';

/** Why an exec ended: a closed list, the same on the wire, in the audit and in the metrics. */
export type KilledBy =
  | 'exit'
  | 'signal'
  | 'timeout'
  | 'oom'
  | 'pids'
  | 'disk'
  | 'output'
  | 'policy'
  | 'disconnect'
  | 'runner';

export interface Ending {
  readonly killedBy: KilledBy;
  readonly exitCode: number | undefined;
  readonly signal: string;
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly maxRssBytes: number;
  readonly stdout: { captured: number; total: number; dropped: number };
  readonly stderr: { captured: number; total: number; dropped: number };
  readonly exception: AgentEnd['exception'];
  readonly artefacts: readonly Artefact[];
  readonly egress: EgressAccount;
  readonly detail: string;
  readonly errorCode: ErrorCode | '';
}

export type ExecEvent =
  | { readonly kind: 'chunk'; readonly stream: 'stdout' | 'stderr'; readonly chunk: OutputChunk }
  | { readonly kind: 'end'; readonly ending: Ending };

export interface ExecOrder {
  readonly id: string;
  readonly start: StartOrder;
  readonly binding: Binding;
  /** Makes the next execution token; called while the exec runs. */
  readonly renew: () => Promise<Binding['token']>;
  readonly timeoutMs: number;
  readonly outputBytes: number;
  readonly overflow: 'truncate' | 'kill';
  /** Aborted when the caller is gone. */
  readonly signal: AbortSignal;
  readonly onDenied: (event: DeniedEvent) => void;
  /** Where what the program leaves in /output is kept. */
  readonly artefacts: ArtefactStore;
}

const RENEW_EVERY_MS = 30_000;
/** How long the agent has to report an end that was forced, before the whole sandbox goes. */
const KILL_GRACE_MS = 250;
/** What reading artefacts and closing the door may take together. */
const ENDING_MS = 30_000;
/** How long the end of a lost box is waited for, to hear why. */
const LAST_WORD_MS = 1_000;
/** Of an exec whose door never opened, or whose sidecar is gone. */
export const NO_EGRESS: EgressAccount = {
  allowed: 0,
  denied: 0,
  limited: 0,
  failed: 0,
  bytesOut: 0,
  bytesIn: 0,
  auditHead: undefined,
};

/**
 * One program in one sandbox, from bind to unbind. It ends exactly once, whatever happens, and its end does not wait for whoever
 * reads its output.
 */
export class Exec {
  readonly order: ExecOrder;
  /** How it ended, once its door is closed again. Never rejects; pending until `start` has returned. */
  readonly ended: Promise<Ending>;
  /** When the program has ended, before its door is closed. Never rejects. */
  readonly over: Promise<void>;
  readonly #sandbox: Sandbox;
  readonly #number: number;
  readonly #startedAt = performance.now();
  readonly #accounts: Record<'stdout' | 'stderr', OutputAccount>;
  readonly #queue: { stream: 'stdout' | 'stderr'; chunk: OutputChunk; credit: number }[] = [];
  readonly #timers: NodeJS.Timeout[] = [];
  /** Resolved when the agent knows of the program: it drops what comes for one that it does not know. */
  readonly #begun: Promise<void>;
  #begin: () => void = () => {};
  #settle: (ending: Ending) => void = () => {};
  #isOver: () => void = () => {};
  #wake: (() => void) | undefined;
  #cause: { killedBy: KilledBy; detail: string; errorCode: ErrorCode | '' } | undefined;
  #bound: Promise<boolean> = Promise.resolve(false);
  #agentEnd: AgentEnd | undefined;
  /** What was said when the sandbox was lost before the program's end. */
  #lostMessage = 'the end was not reported';
  #over = false;
  #unread = false;

  constructor(sandbox: Sandbox, order: ExecOrder, number: number) {
    this.#sandbox = sandbox;
    this.order = order;
    this.#number = number;
    this.#accounts = {
      stdout: new OutputAccount(order.outputBytes),
      stderr: new OutputAccount(order.outputBytes),
    };
    this.#begun = new Promise((resolve) => {
      this.#begin = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.over = new Promise((resolve) => {
      this.#isOver = resolve;
    });
  }

  /**
   * Starts the program and binds its door, both at once: its connections wait until the sidecar has answered, and where it
   * cannot be bound the program is ended with SIDECAR_LOST and nothing has left the sandbox. Where the policy looks into TLS the
   * door comes first, since a program may read what it is to trust when it starts.
   * @throws {OutriderError} SESSION_BUSY; then nothing has run
   */
  start(): void {
    const { attachment } = this.#sandbox;
    attachment.onDenied = this.order.onDenied;
    attachment.onPolicyEnded = (code) =>
      this.kill('policy', 'the policy ended this exec', code === '' ? '' : 'EGRESS_DENIED');
    if (this.order.binding.intercepts) {
      this.#sandbox.link.assertFree();
      this.#bound = this.#bind(() => this.#startProgram(TRUST_ENV));
      return;
    }
    this.#startProgram(OPAQUE_ENV);
    this.#bound = this.#bind();
  }

  #startProgram(env: Readonly<Record<string, string>>): void {
    const { start, overflow } = this.order;
    const { keep } = this.#accounts.stdout; // of both the same
    this.#sandbox.link.start(
      this.#number,
      // Where it would be dropped here, the agent does it: a flood costs this process nothing.
      {
        ...start,
        env: { ...env, ...start.env },
        door: 'shut',
        ...(overflow === 'truncate' && { keep }),
      },
      {
        output: (stream, data) => this.#onOutput(stream, data),
        skipped: (stream, bytes) => this.#accounts[stream].skip(bytes),
        end: (end) => {
          this.#agentEnd = end;
          this.#finish();
        },
        lost: (message) => {
          this.#lostMessage = message;
          this.#finish();
        },
      },
    );
    this.#begin();
    if (!this.#over) this.#watch();
  }

  /** Whether the door could be bound; before that the sidecar knows nothing of this exec. Never rejects. */
  get bound(): Promise<boolean> {
    return this.#bound;
  }

  /** What the program writes, then its end, once and last. Asking for the next event gives the program room for more output. */
  async *events(): AsyncGenerator<ExecEvent, void, undefined> {
    try {
      yield* this.#chunks();
      yield { kind: 'end', ending: await this.ended };
    } finally {
      this.#unread = true;
      this.#creditQueued();
      this.#queue.length = 0;
      if (!this.#over) this.kill('disconnect', 'the caller stopped listening');
    }
  }

  async stdin(data: Buffer): Promise<void> {
    await this.#begun;
    await this.#sandbox.link.stdin(this.#number, data);
  }

  closeStdin(): void {
    void this.#begun.then(() => this.#sandbox.link.closeStdin(this.#number));
  }

  signal(signal: number): void {
    void this.#begun.then(() => this.#sandbox.link.signal(this.#number, signal));
  }

  /** Ends it for this reason; the first reason counts. */
  kill(killedBy: KilledBy, detail: string, errorCode: ErrorCode | '' = ''): void {
    if (this.#over || this.#cause) return;
    this.#cause = { killedBy, detail, errorCode };
    void this.#begun.then(() => this.#sandbox.link.kill(this.#number));
    this.#creditQueued(); // what is left in the pipes must not wait for a slow reader
    setTimeout(() => {
      if (!this.#over) void this.#sandbox.end();
    }, KILL_GRACE_MS).unref();
  }

  /** Binds the door and opens it; `first` is called before it opens, also where it cannot be bound. Never rejects. */
  async #bind(first: () => void = () => {}): Promise<boolean> {
    const { attachment, directory, link } = this.#sandbox;
    let bound = true;
    try {
      const ca = await attachment.bind(this.order.binding);
      if (ca !== '') writeTrust(directory, ca);
    } catch {
      bound = false;
    }
    first();
    if (bound) link.openDoor(this.#number);
    else this.kill('runner', SIDECAR_ENDED, 'SIDECAR_LOST');
    return bound;
  }

  #watch(): void {
    const { timeoutMs, renew, binding, signal } = this.order;
    const timeout = setTimeout(
      () =>
        this.kill('timeout', `time limit of ${timeoutMs / 1000} s reached`, 'DEADLINE_EXCEEDED'),
      Math.min(timeoutMs, TIMER_MAX_MS),
    );
    const renewal = setInterval(() => {
      renew().then(
        (token) => {
          if (!this.#over) this.#sandbox.attachment.renew(binding.execId, token);
        },
        () => {}, // the old token runs out, and with it the way out: closed, not open
      );
    }, RENEW_EVERY_MS);
    this.#timers.push(timeout, renewal);
    signal.addEventListener('abort', this.#onAbort);
    if (signal.aborted) this.#onAbort();
  }

  readonly #onAbort = (): void => {
    const reason: unknown = this.order.signal.reason;
    if (reason instanceof OutriderError && reason.code === 'DEADLINE_EXCEEDED')
      this.kill('timeout', reason.message, reason.code);
    else this.kill('disconnect', 'the caller went away');
  };

  #onOutput(stream: 'stdout' | 'stderr', data: Buffer): void {
    const account = this.#accounts[stream];
    const chunk = account.push(data);
    outputPassed(data.length);
    const now = !chunk || this.#unread || this.#cause !== undefined;
    if (now) this.#sandbox.link.credit(this.#number, data.length);
    if (chunk && !this.#unread) this.#queue.push({ stream, chunk, credit: now ? 0 : data.length });
    if (account.overflowed && this.order.overflow === 'kill')
      this.kill('output', `${stream} is longer than ${this.order.outputBytes} bytes`);
    this.#wake?.();
  }

  #creditQueued(): void {
    for (const entry of this.#queue) {
      if (entry.credit > 0) this.#sandbox.link.credit(this.#number, entry.credit);
      entry.credit = 0;
    }
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#isOver();
    this.#sandbox.answer();
    for (const timer of this.#timers) clearTimeout(timer);
    this.order.signal.removeEventListener('abort', this.#onAbort);
    for (const stream of ['stdout', 'stderr'] as const) {
      const chunk = this.#accounts[stream].finish();
      if (chunk && !this.#unread) this.#queue.push({ stream, chunk, credit: 0 });
    }
    this.#wake?.();
    void this.#ending().then(this.#settle);
  }

  async *#chunks(): AsyncGenerator<ExecEvent, void, undefined> {
    for (;;) {
      const next = this.#queue.shift();
      if (next) {
        yield { kind: 'chunk', stream: next.stream, chunk: next.chunk };
        this.#sandbox.answer(); // whoever asks for the next has passed this one on
        if (next.credit > 0) this.#sandbox.link.credit(this.#number, next.credit);
      } else if (this.#over) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    }
  }

  /** Must not throw: it is the one end. */
  async #ending(): Promise<Ending> {
    const wallMs = performance.now() - this.#startedAt;
    const end = this.#agentEnd;
    const { lostBy } = this.#sandbox;
    // An agent that does not answer any more must not keep the end back.
    const late = setTimeout(() => void this.#sandbox.end(), ENDING_MS).unref();
    const [egress, grown, artefacts] = await Promise.all([
      this.#unbind(),
      this.#grown(),
      this.#collect(end?.artefacts ?? []),
    ]);
    clearTimeout(late);
    const { stdout, stderr } = this.#accounts;
    return {
      exitCode: undefined,
      signal: '',
      detail: '',
      errorCode: '',
      ...(this.#cause ?? (end ? this.#endOf(end, grown) : this.#lossOf(lostBy, grown))),
      wallMs,
      cpuMs: end?.cpuMs ?? 0,
      maxRssBytes: end?.maxRssBytes ?? 0,
      stdout: stdout.account,
      stderr: stderr.account,
      exception: end?.exception,
      artefacts,
      egress,
    };
  }

  /** How often the box's limits were hit by this exec: of one box, only one runs at a time. */
  async #grown(): Promise<BoxCounters> {
    const { counted, box } = this.#sandbox;
    const soon = await box.counters().catch(() => counted);
    // Where the box was lost its last word may come with its end only, as an engine's word of memory that ran out does.
    if (!this.#agentEnd) await within(LAST_WORD_MS, box.ended);
    const late = this.#agentEnd ? soon : await box.counters().catch(() => soon);
    const now = {
      oomKills: Math.max(soon.oomKills, late.oomKills),
      pidsRefused: Math.max(soon.pidsRefused, late.pidsRefused),
    };
    this.#sandbox.counted = now;
    return {
      oomKills: now.oomKills - counted.oomKills,
      pidsRefused: now.pidsRefused - counted.pidsRefused,
    };
  }

  /** A program that ended badly after it had hit a limit was ended by that limit; one that coped with it was not. */
  #endOf(end: AgentEnd, grown: BoxCounters): Verdict {
    const { exit, signal, diskFull } = end;
    if (exit === 0) return { killedBy: 'exit', exitCode: 0 };
    const then = exit === undefined ? '' : `; the program ended with ${exit}`;
    if (grown.oomKills > 0) return { killedBy: 'oom', detail: this.#memoryDetail() + then };
    const { pids, diskBytes } = this.#sandbox.shape.resources;
    if (grown.pidsRefused > 0)
      return { killedBy: 'pids', detail: `limit of ${pids} processes reached${then}` };
    if (diskFull)
      return { killedBy: 'disk', detail: `disk limit of ${inMib(diskBytes)} reached${then}` };
    if (signal !== undefined) return { killedBy: 'signal', signal: signalName(signal) };
    if (exit !== undefined) return { killedBy: 'exit', exitCode: exit };
    return lostAs('the end was not reported');
  }

  #lossOf(lostBy: Sandbox['lostBy'], grown: BoxCounters): Verdict {
    if (grown.oomKills > 0) return { killedBy: 'oom', detail: this.#memoryDetail() };
    if (lostBy === 'sidecar')
      return { killedBy: 'runner', detail: SIDECAR_ENDED, errorCode: 'SIDECAR_LOST' };
    return lostAs(this.#lostMessage);
  }

  #memoryDetail(): string {
    return `memory limit of ${inMib(this.#sandbox.shape.resources.memoryBytes)} reached`;
  }

  async #unbind(): Promise<EgressAccount> {
    try {
      if (!(await this.#bound)) return NO_EGRESS;
      return await this.#sandbox.attachment.unbind(this.order.id);
    } catch {
      return NO_EGRESS; // the sidecar is gone: the exec's own end says so
    } finally {
      // Only now: what was refused just before the end may still have been on its way.
      this.#sandbox.attachment.onDenied = () => {};
    }
  }

  async #collect(found: AgentEnd['artefacts']): Promise<Artefact[]> {
    const { artefacts, binding, id } = this.order;
    return artefacts.keep(id, binding.principal, found, (path, offset, length) =>
      this.#sandbox.link.read(`/output/${path}`, offset, length),
    );
  }
}

/** Reads a whole exec into memory; bounded by its output limits. */
export async function collect(
  events: AsyncIterable<ExecEvent>,
): Promise<{ stdout: OutputChunk[]; stderr: OutputChunk[]; ending: Ending }> {
  const chunks: Record<'stdout' | 'stderr', OutputChunk[]> = { stdout: [], stderr: [] };
  for await (const event of events) {
    if (event.kind === 'end') return { ...chunks, ending: event.ending };
    chunks[event.stream].push(event.chunk);
  }
  throw new OutriderError('SANDBOX_FAILED', "the program's end was not reported");
}

type Verdict = Pick<Ending, 'killedBy'> & Partial<Ending>;

const SIDECAR_ENDED = 'the sidecar of the sandbox ended';

async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}

function lostAs(detail: string): Verdict {
  return { killedBy: 'runner', detail, errorCode: 'SANDBOX_FAILED' };
}

function inMib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

function signalName(number: number): string {
  return (
    Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `SIG${number}`
  );
}
