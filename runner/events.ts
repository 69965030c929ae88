import { OutriderError } from '#core/errors';
import type { Revision } from '#policystore';
import type { Attestation } from './backends/backend.ts';
import type { Ending } from './exec.ts';
import type { ExecFacts } from './exec-facts.ts';
import type { Sandbox } from './sandbox.ts';
import type { EndReason, Kept } from './sessions.ts';
import type { DeniedEvent } from './sidecar-link.ts';

/** What happened to a sandbox or an exec; never what a program wrote. */
export type Happening =
  | { readonly kind: 'sandboxCreated'; readonly sandbox: Kept | FreshSandbox }
  | { readonly kind: 'sandboxEnded'; readonly reason: EndReason | 'exec_ended' }
  | { readonly kind: 'execStarted'; readonly facts: ExecFacts }
  | { readonly kind: 'execEnded'; readonly facts: ExecFacts; readonly ending: Ending }
  | { readonly kind: 'egressDenied'; readonly denied: DeniedEvent };

/** A sandbox that lives for one exec. */
export interface FreshSandbox {
  readonly id: string;
  readonly profile: string;
  readonly role: string;
  readonly policyDigest: string;
  readonly policyRevision?: Revision | null | undefined;
  readonly attestation: Attestation;
}

export interface RunnerEvent {
  readonly time: Date;
  readonly sandboxId: string;
  /** Empty where it concerns no exec. */
  readonly execId: string;
  /** Of the exec. */
  readonly labels: Readonly<Record<string, string>>;
  readonly happening: Happening;
}

interface Watcher {
  readonly owner: string;
  /** Empty for all of the owner's. */
  readonly sandboxId: string;
  readonly queue: RunnerEvent[];
  wake: () => void;
  behind: boolean;
}

const QUEUE_MAX = 1_000;
const WATCHERS_MAX = 16;

/**
 * Tells callers what happens to their own sandboxes and execs, from the moment that they ask. A watcher has a queue of 1000 events:
 * one that reads too slowly is ended, so that it never takes a gap for the whole. An owner has at most 16 watchers.
 */
export class Events {
  readonly #watchers = new Set<Watcher>();
  #closed = false;

  /** Ends every watch, once it has read what it was told. */
  close(): void {
    this.#closed = true;
    for (const watcher of this.#watchers) watcher.wake();
  }

  /** Tells the owner's watchers; `facts` of the exec that it concerns. Costs next to nothing where nobody watches. */
  publish(owner: string, sandboxId: string, happening: Happening, facts?: ExecFacts): void {
    let event: RunnerEvent | undefined;
    for (const watcher of this.#watchers) {
      if (watcher.owner !== owner || !['', sandboxId].includes(watcher.sandboxId)) continue;
      event ??= eventOf(sandboxId, happening, facts);
      if (watcher.queue.length < QUEUE_MAX) watcher.queue.push(event);
      else watcher.behind = true;
      watcher.wake();
    }
  }

  /**
   * Begins to watch at once, not with the first item asked for. Ends when `signal` is aborted.
   * @throws {OutriderError} QUOTA_EXCEEDED: too many watchers, or, while iterating, a watcher that is too slow; DRAINING
   */
  watch(owner: string, sandboxId: string, signal: AbortSignal): AsyncGenerator<RunnerEvent> {
    if ([...this.#watchers].filter((one) => one.owner === owner).length >= WATCHERS_MAX)
      throw new OutriderError('QUOTA_EXCEEDED', `you watch ${WATCHERS_MAX} times already`, {
        retryAfterMs: 1_000,
      });
    const watcher: Watcher = { owner, sandboxId, queue: [], wake: () => {}, behind: false };
    this.#watchers.add(watcher);
    const leave = () => {
      this.#watchers.delete(watcher);
      watcher.wake();
    };
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    return this.#read(watcher, signal);
  }

  async *#read(watcher: Watcher, signal: AbortSignal): AsyncGenerator<RunnerEvent> {
    try {
      while (!signal.aborted) {
        const next = watcher.queue.shift();
        if (next) yield next;
        else if (this.#closed) throw new OutriderError('DRAINING', 'the runner is stopping');
        else if (watcher.behind)
          throw new OutriderError('QUOTA_EXCEEDED', 'events were missed: read them faster');
        else
          await new Promise<void>((resolve) => {
            watcher.wake = resolve;
          });
      }
    } finally {
      this.#watchers.delete(watcher);
    }
  }
}

function eventOf(sandboxId: string, happening: Happening, facts?: ExecFacts): RunnerEvent {
  const { execId = '', labels = {} } = facts ?? {};
  return { time: new Date(), sandboxId, execId, labels, happening };
}

/** That a sandbox was taken for one exec. */
export function freshCreated(
  { id, shape, box: { attestation } }: Sandbox,
  { role, policyDigest, policyRevision }: ExecFacts,
): Happening {
  const { profile } = shape;
  return {
    kind: 'sandboxCreated',
    sandbox: { id, profile, role, policyDigest, policyRevision, attestation },
  };
}

/** That it is gone with its exec, and why. */
export function freshEnded({ errorCode }: Ending): Happening {
  const lost = errorCode === 'SANDBOX_FAILED' || errorCode === 'SIDECAR_LOST';
  const reason = lost ? 'lost' : errorCode === 'DRAINING' ? 'runner' : 'exec_ended';
  return { kind: 'sandboxEnded', reason };
}
