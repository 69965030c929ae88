import { constants } from 'node:os';
import { type ErrorCode, OutriderError } from '#core/errors';
import type { AgentEnd, StartOrder } from './agent-link.ts';
import { OutputAccount, type OutputChunk } from './output.ts';
import type { Sandbox } from './sandbox.ts';
import type { Binding, DeniedEvent, EgressAccount } from './sidecar-link.ts';

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

export interface Artefact {
  readonly path: string;
  readonly size: number;
  /** Empty where it was too large to be taken along. */
  readonly content: Buffer;
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
}

const RENEW_EVERY_MS = 30_000;
/** How long the agent has to report an end that was forced, before the whole sandbox goes. */
const KILL_GRACE_MS = 250;
const INLINE_FILE_MAX = 256 * 1024;
const INLINE_TOTAL_MAX = 2 * 2 ** 20;
const SIGKILL = 9;
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
  /** How it ended, once its door is closed again. Never rejects; pending until `start` has resolved. */
  readonly ended: Promise<Ending>;
  readonly #sandbox: Sandbox;
  readonly #number: number;
  readonly #startedAt = performance.now();
  readonly #accounts: Record<'stdout' | 'stderr', OutputAccount>;
  readonly #oomBefore: number;
  readonly #queue: { stream: 'stdout' | 'stderr'; chunk: OutputChunk; credit: number }[] = [];
  readonly #timers: NodeJS.Timeout[] = [];
  /** Resolved when the agent knows of the program: it drops what comes for one that it does not know. */
  readonly #begun: Promise<void>;
  #begin: () => void = () => {};
  #settle: (ending: Ending) => void = () => {};
  #wake: (() => void) | undefined;
  #cause: { killedBy: KilledBy; detail: string; errorCode: ErrorCode | '' } | undefined;
  #agentEnd: AgentEnd | undefined;
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
    this.#oomBefore = sandbox.box.oomKills();
    this.#begun = new Promise((resolve) => {
      this.#begin = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  /** Opens the door and starts the program. @throws {OutriderError} SIDECAR_LOST, SESSION_BUSY; then nothing has run */
  async start(): Promise<void> {
    const { link, attachment } = this.#sandbox;
    const { order } = this;
    attachment.onDenied = order.onDenied;
    attachment.onPolicyEnded = (code) =>
      this.kill('policy', 'the policy ended this exec', code === '' ? '' : 'EGRESS_DENIED');
    await attachment.bind(order.binding);
    link.start(this.#number, order.start, {
      started: () => {},
      output: (stream, data) => this.#onOutput(stream, data),
      end: (end) => {
        this.#agentEnd = end;
        this.#finish();
      },
      lost: (message) => {
        this.#onLost(message);
        this.#finish();
      },
    });
    this.#begin();
    if (!this.#over) this.#watch();
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
    this.signal(SIGKILL);
    this.#creditQueued(); // what is left in the pipes must not wait for a slow reader
    setTimeout(() => {
      if (!this.#over) void this.#sandbox.end();
    }, KILL_GRACE_MS).unref();
  }

  #watch(): void {
    const { timeoutMs, renew, binding, signal } = this.order;
    const timeout = setTimeout(
      () =>
        this.kill('timeout', `time limit of ${timeoutMs / 1000} s reached`, 'DEADLINE_EXCEEDED'),
      timeoutMs,
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

  #onLost(message: string): void {
    const { lostBy, box } = this.#sandbox;
    if (box.oomKills() > this.#oomBefore)
      this.#cause ??= { killedBy: 'oom', detail: this.#memoryDetail(), errorCode: '' };
    else if (lostBy === 'sidecar')
      this.#cause ??= {
        killedBy: 'runner',
        detail: 'the sidecar of the sandbox ended',
        errorCode: 'SIDECAR_LOST',
      };
    else this.#cause ??= { killedBy: 'runner', detail: message, errorCode: 'SANDBOX_FAILED' };
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.order.signal.removeEventListener('abort', this.#onAbort);
    this.#sandbox.attachment.onDenied = () => {};
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
    const egress = await this.#unbind();
    const artefacts = end && this.#sandbox.alive ? await this.#collect(end.artefacts) : [];
    const { stdout, stderr } = this.#accounts;
    return {
      ...this.#verdict(end),
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

  #verdict(
    end: AgentEnd | undefined,
  ): Pick<Ending, 'killedBy' | 'exitCode' | 'signal' | 'detail' | 'errorCode'> {
    const plain = { exitCode: undefined, signal: '', detail: '', errorCode: '' } as const;
    if (this.#cause) return { ...plain, ...this.#cause };
    if (end?.signal === SIGKILL && this.#sandbox.box.oomKills() > this.#oomBefore)
      return { ...plain, killedBy: 'oom', detail: this.#memoryDetail() };
    if (end?.signal !== undefined)
      return { ...plain, killedBy: 'signal', signal: signalName(end.signal) };
    if (end?.exit !== undefined) return { ...plain, killedBy: 'exit', exitCode: end.exit };
    return {
      ...plain,
      killedBy: 'runner',
      errorCode: 'SANDBOX_FAILED',
      detail: 'the end was not reported',
    };
  }

  #memoryDetail(): string {
    return `memory limit of ${Math.round(this.#sandbox.shape.resources.memoryBytes / 2 ** 20)} MiB reached`;
  }

  async #unbind(): Promise<EgressAccount> {
    try {
      return await this.#sandbox.attachment.unbind(this.order.id);
    } catch {
      return NO_EGRESS; // the sidecar is gone: the exec's own end says so
    }
  }

  async #collect(found: AgentEnd['artefacts']): Promise<Artefact[]> {
    const artefacts: Artefact[] = [];
    let room = INLINE_TOTAL_MAX;
    for (const { path, size } of found) {
      const small = size <= Math.min(INLINE_FILE_MAX, room);
      const content = small
        ? await this.#sandbox.link.read(`/output/${path}`).catch(() => Buffer.alloc(0))
        : Buffer.alloc(0);
      room -= content.length;
      artefacts.push({ path, size, content });
    }
    return artefacts;
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

function signalName(number: number): string {
  return (
    Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `SIG${number}`
  );
}
