import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditHead } from '#core/audit';
import { OutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Spool } from './spool.ts';

/**
 * Takes lines, each with its line feed, to the proxy, and resolves to the last record that it has stored. Rejects when nothing is known to be stored: with
 * `DeliveryRefused` where the same lines would be refused again.
 */
export type PostAudit = (lines: Buffer) => Promise<AuditHead>;

/** The proxy does not take these lines. It may have said what it has of the chain. */
export class DeliveryRefused extends OutriderError {
  readonly stored: AuditHead | undefined;

  constructor(cause: string, stored: AuditHead | undefined) {
    super('AUDIT_UNAVAILABLE', 'the proxy refused the audit records', { cause });
    this.stored = stored;
  }
}

/** So many records do not wait for others: enough that the delivery costs little beside them. */
const BATCH_RECORDS = 256;
const BATCH_DELAY_MS = 200;
const RETRY_MAX_MS = 2_000;
const FLUSH_RETRY_MS = 100;
/** What was refused as it is gets another chance only because the proxy may be another by then. */
const REFUSED_RETRY_MS = 60_000;

/**
 * Brings the records of one spool to the proxy: a batch at a time, 200 ms after the first record or at 256 of them. A record
 * leaves the spool only when the proxy has acknowledged its hash; until then it is sent again, less and less often. Where the
 * proxy refuses records and says which it has, delivery goes on behind that one.
 */
export class Delivery {
  readonly #spool: Spool;
  readonly #writer: string;
  readonly #post: PostAudit;
  readonly #log: Logger;
  readonly #onDelivered: () => void;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<boolean> | undefined;
  #failures = 0;
  #refused = false;
  #stopped = false;

  constructor(deps: {
    spool: Spool;
    writer: string;
    post: PostAudit;
    log: Logger;
    /** Called whenever records have left the spool. */
    onDelivered: () => void;
  }) {
    this.#spool = deps.spool;
    this.#writer = deps.writer;
    this.#post = deps.post;
    this.#log = deps.log;
    this.#onDelivered = deps.onDelivered;
  }

  /** Says that there are new records. */
  nudge(): void {
    if (this.#stopped || this.#running || this.#spool.pending === 0) return;
    if (this.#failures === 0 && !this.#refused && this.#spool.pending >= BATCH_RECORDS)
      void this.#run();
    else this.#timer ??= setTimeout(() => void this.#run(), this.#delayMs());
  }

  /**
   * Delivers what is pending now. With `retry` it tries until `withinMs` has passed or the proxy refuses, otherwise the first
   * failure ends it.
   * Resolves to whether the spool is empty.
   */
  async flush(withinMs: number, retry: boolean): Promise<boolean> {
    const deadline = Date.now() + withinMs;
    while (this.#spool.pending > 0 && Date.now() < deadline) {
      const expired = new AbortController();
      const done = await Promise.race([
        this.#run(),
        sleep(deadline - Date.now(), false, { signal: expired.signal }).catch(() => false),
      ]);
      expired.abort();
      if (done) continue;
      if (!retry || this.#refused) break;
      await sleep(Math.min(FLUSH_RETRY_MS, Math.max(0, deadline - Date.now())));
    }
    return this.#spool.pending === 0;
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #delayMs(): number {
    if (this.#refused) return REFUSED_RETRY_MS;
    return Math.min(BATCH_DELAY_MS * 2 ** this.#failures, RETRY_MAX_MS);
  }

  /** One pass over the spool, until less than a batch is left; several callers share it. Never rejects. */
  #run(): Promise<boolean> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#running ??= this.#deliverAll().finally(() => {
      this.#running = undefined;
      this.nudge();
    });
    return this.#running;
  }

  async #deliverAll(): Promise<boolean> {
    try {
      for (let lines = this.#spool.batch(); lines && !this.#stopped; lines = this.#spool.batch()) {
        const head = await this.#post(lines).catch(storedAllTheSame);
        if (!this.#spool.acknowledge(head, this.#writer))
          throw new DeliveryRefused('it has none of the records in the spool', head);
        this.#failures = 0;
        this.#refused = false;
        this.#onDelivered();
        // What came meanwhile waits for more: under a load that never pauses each record would be a request of its own.
        if (this.#spool.pending < BATCH_RECORDS) break;
      }
      return true;
    } catch (error) {
      this.#failures += 1;
      if (error instanceof DeliveryRefused) this.#showRefused(error);
      if (this.#failures === 3)
        this.#log.warn('audit records cannot be delivered to the proxy; they are kept', {
          error,
          detail: { writer: this.#writer, pending: this.#spool.pending },
        });
      return false;
    }
  }

  #showRefused(error: DeliveryRefused): void {
    if (!this.#refused)
      this.#log.error('the proxy refuses the audit records of a sandbox; they are kept', {
        error,
        detail: {
          writer: this.#writer,
          pending: this.#spool.pending,
          first: this.#spool.first,
          stored: error.stored?.seq,
        },
      });
    this.#refused = true;
  }
}

function storedAllTheSame(error: unknown): AuditHead {
  if (error instanceof DeliveryRefused && error.stored) return error.stored;
  throw error;
}
