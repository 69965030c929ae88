import { OutriderError } from '#core/errors';
import { type Principal, principalKey } from '#core/principal';
import { type Ending, NO_EGRESS } from './exec.ts';
import type { ExecFacts } from './exec-facts.ts';
import type { NotedExec } from './journal.ts';
import { type Owner, Shares } from './shares.ts';

/** How long an ended exec is remembered for GetExec. */
const REMEMBER_MS = 10 * 60_000;
const REMEMBER_MAX = 10_000;
/** What programs can make long of their endings, in bytes, of all that are remembered. */
const TEXTS_MAX_BYTES = 64 * 2 ** 20;
/** What one counts for beside those, so that many are as much as long ones. */
const ENTRY_BYTES = Math.floor(TEXTS_MAX_BYTES / REMEMBER_MAX);

/** One exec that is over, as its owner may see it: without the contents of its artefacts. */
export interface EndedExec {
  readonly owner: string;
  readonly facts: ExecFacts;
  readonly exec: undefined;
  readonly ending: Ending;
}

/**
 * Execs that have ended within the last 10 minutes: 10 000, or as many as have 64 MiB of names and messages. Where there are more, the
 * oldest go of whoever has the most.
 */
export class EndedExecs {
  readonly #kept = new Map<string, EndedExec & { readonly endedAt: number; bytes: number }>();
  readonly #shares = new Shares<string>();
  readonly #keepMs: number;
  readonly #most: number;
  #bytes = 0;

  /** Others than those of the last 10 minutes, and another number of them. */
  constructor({ keepMs = REMEMBER_MS, most = REMEMBER_MAX } = {}) {
    this.#keepMs = keepMs;
    this.#most = most;
  }

  get(execId: string): EndedExec | undefined {
    const found = this.#kept.get(execId);
    return found && Date.now() - found.endedAt < this.#keepMs ? found : undefined;
  }

  /** One that ended before is to be added before those that ended after it. */
  add(who: Owner, facts: ExecFacts, ending: Ending, endedAt = Date.now()): void {
    const artefacts = ending.artefacts.map((artefact) => ({
      ...artefact,
      content: Buffer.alloc(0),
    }));
    const bytes = textBytes(ending);
    const remembered = { ...ending, artefacts };
    this.#kept.set(facts.execId, {
      owner: principalKey({ ...who, groups: [], claims: {} }),
      facts,
      exec: undefined,
      ending: remembered,
      endedAt,
      bytes,
    });
    this.#bytes += bytes;
    this.#shares.add(facts.execId, who, bytes + ENTRY_BYTES);
    for (const [id, oldest] of this.#kept) {
      if (Date.now() - oldest.endedAt < this.#keepMs) break; // the oldest stand first
      this.#forget(id);
    }
    for (let { first } = this.#shares; first !== undefined; { first } = this.#shares) {
      if (this.#kept.size <= this.#most && this.#bytes <= TEXTS_MAX_BYTES) break;
      this.#forget(first);
    }
  }

  #forget(execId: string): void {
    this.#bytes -= this.#kept.get(execId)?.bytes ?? 0;
    this.#kept.delete(execId);
    this.#shares.delete(execId);
  }
}

/** An ending without what the program wrote or threw. */
export function withoutContents(ending: Ending): Ending {
  const artefacts = ending.artefacts.map((one) => ({ ...one, content: Buffer.alloc(0) }));
  return { ...ending, artefacts, exception: undefined };
}

/** What a program can make long of its ending, as it is held in memory: two bytes a character. */
export function textBytes({ artefacts, exception }: Ending): number {
  const paths = artefacts.reduce((sum, { path }) => sum + path.length + 200, 0);
  const { type = '', message = '', traceback = '' } = exception ?? {};
  return 2 * (paths + type.length + message.length + traceback.length);
}

/** What the journal holds of an exec. */
export function noted(
  { issuer, subject, tenant }: Principal,
  facts: ExecFacts,
  idempotency: NotedExec['idempotency'],
): NotedExec {
  const { execId, sandboxId, session, role, requestId, policyDigest, labels, purpose } = facts;
  return {
    execId,
    sandboxId,
    session,
    role,
    requestId,
    policyDigest,
    startedAt: facts.startedAt.getTime(),
    issuer,
    subject,
    tenant,
    labels,
    purpose,
    idempotency,
  };
}

/** An exec that an earlier life of this runner left running, and how it ended: nothing more is known of it. */
export function lostExec(exec: NotedExec): {
  principal: Principal;
  facts: ExecFacts;
  ending: Ending;
} {
  const { issuer, subject, tenant, idempotency: _, ...known } = exec;
  return {
    principal: { issuer, subject, tenant, groups: [], claims: {} },
    facts: {
      ...known,
      startedAt: new Date(exec.startedAt),
      attestation: undefined,
      warm: false,
      queuedMs: 0,
    },
    ending: failedToStart(new OutriderError('EXEC_LOST', 'the runner restarted')),
  };
}

/** The program never began, or nothing is known of it but that it did. */
export function failedToStart(error: OutriderError): Ending {
  const none = { captured: 0, total: 0, dropped: 0 };
  return {
    killedBy: 'runner',
    exitCode: undefined,
    signal: '',
    wallMs: 0,
    cpuMs: 0,
    maxRssBytes: 0,
    stdout: none,
    stderr: none,
    exception: undefined,
    artefacts: [],
    egress: NO_EGRESS,
    detail: error.message,
    errorCode: error.code,
  };
}
