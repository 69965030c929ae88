import { OutriderError } from '#core/errors';
import type { Revision } from '#policystore';
import type { Exec, KilledBy } from './exec.ts';
import type { Sandbox } from './sandbox.ts';

/** A sandbox that outlives one exec, and belongs to one caller. */
export interface Kept {
  readonly sandbox: Sandbox;
  /** principalKey of the owner. */
  readonly owner: string;
  /** Empty for one without a name. */
  readonly name: string;
  readonly role: string;
  /** Of what holds for its next exec: another once that policy is no longer in force. */
  policyDigest: string;
  /** The reviewed state that it is, where it came as a bundle. */
  policyRevision?: Revision | null | undefined;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly idleMs: number;
  lastUsedAt: number;
  /** The exec that runs in it now. */
  running: Exec | undefined;
  busy: boolean;
}

export type EndReason = 'idle' | 'expired' | 'deleted' | 'lost' | 'runner';

/** What a running exec is told when its sandbox ends. */
const KILLED: Readonly<Record<EndReason, [KilledBy, string]>> = {
  idle: ['timeout', 'the session was idle for too long'],
  expired: ['timeout', 'the session reached the end of its life'],
  deleted: ['disconnect', 'the sandbox was deleted'],
  lost: ['runner', 'the sandbox was lost'],
  runner: ['runner', 'the runner is stopping'],
};

/**
 * The sandboxes that callers keep. What has expired cannot be found, also before it has been swept; what is running is never
 * swept for being idle.
 */
export class Sessions {
  readonly #kept = new Map<string, Kept>();
  readonly #now: () => number;
  readonly #onEnd: (kept: Kept, reason: EndReason) => void;
  readonly #timer: NodeJS.Timeout;
  /** Told of each that is added. */
  onAdd: (kept: Kept) => void = () => {};

  constructor(
    onEnd: (kept: Kept, reason: EndReason) => void,
    now: () => number = Date.now,
    sweepEveryMs = 1_000,
  ) {
    this.#onEnd = onEnd;
    this.#now = now;
    this.#timer = setInterval(() => this.sweep(), sweepEveryMs).unref();
  }

  add(kept: Kept): void {
    this.#kept.set(kept.sandbox.id, kept);
    this.onAdd(kept);
    void kept.sandbox.ended.then(() => this.#drop(kept, 'lost'));
  }

  /** How many the owner keeps under this role. */
  count(owner: string, role: string): number {
    return this.list(owner).filter((kept) => kept.role === role).length;
  }

  /** Everybody's. */
  all(): Iterable<Kept> {
    return this.#kept.values();
  }

  list(owner: string): Kept[] {
    this.sweep();
    return [...this.#kept.values()].filter((kept) => kept.owner === owner);
  }

  /** @throws {OutriderError} SANDBOX_NOT_FOUND, also for another's */
  byId(owner: string, id: string): Kept {
    const kept = this.list(owner).find((candidate) => candidate.sandbox.id === id);
    if (!kept) throw new OutriderError('SANDBOX_NOT_FOUND', 'there is no such sandbox');
    return kept;
  }

  byName(owner: string, name: string): Kept | undefined {
    return this.list(owner).find((candidate) => candidate.name === name);
  }

  /** Ends it; resolves when nothing of it is left. */
  async end(kept: Kept, reason: EndReason): Promise<void> {
    this.#drop(kept, reason);
    kept.running?.kill(...KILLED[reason]);
    await kept.sandbox.end();
  }

  /** Ends what is idle for too long or too old. */
  sweep(): void {
    const now = this.#now();
    for (const kept of this.#kept.values()) {
      if (now >= kept.expiresAt) void this.end(kept, 'expired');
      else if (!kept.busy && now - kept.lastUsedAt >= kept.idleMs) void this.end(kept, 'idle');
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all([...this.#kept.values()].map((kept) => this.end(kept, 'runner')));
  }

  #drop(kept: Kept, reason: EndReason): void {
    if (this.#kept.delete(kept.sandbox.id)) this.#onEnd(kept, reason);
  }
}
