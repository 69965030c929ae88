import { type Address, isLoopback } from '#core/address';
import { AuditChain, type AuditHead } from '#core/audit';
import type { Clock } from '#core/clock';
import { OutriderError } from '#core/errors';
import type { Http1Pool } from '#core/http1/client';
import type { Logger } from '#core/log';
import { interceptedHosts, RuleLimits } from '#policies';
import {
  Binding,
  type ExecGrant,
  type ExecPolicy,
  type ExecToken,
  type Totals,
} from './binding.ts';
import { Delivery } from './delivery.ts';
import { Door, type DoorLimits } from './door.ts';
import type { Exchange } from './exchange.ts';
import { type DeniedEvent, Journal } from './journal.ts';
import type { Measures } from './measures.ts';
import { postAudit, proxyPool } from './proxy-link.ts';
import { ProxySession } from './proxy-session.ts';
import type { ProxyTls } from './proxy-tls.ts';
import { Refused, toRefused } from './refusal.ts';
import { Spool } from './spool.ts';
import { SandboxAuthority, SandboxKeys } from './tls/authority.ts';

/** What the runner asks for when it opens a door. */
export interface AttachmentSpec {
  readonly attachmentId: string;
  readonly sandboxId: string;
  readonly listen: Address;
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
  readonly limits: DoorLimits;
  readonly spoolRecords: number;
  /** A file made by the runner, where undelivered records outlive this process. */
  readonly spoolPath?: string | undefined;
}

export interface AttachmentDeps {
  readonly proxy: Address;
  readonly proxyTls: ProxyTls | undefined;
  readonly proxyTimeoutMs: number;
  readonly log: Logger;
  readonly measures: Measures;
  readonly now: Clock;
  readonly onDenied: (event: DeniedEvent) => void;
  readonly onSpool: (refusing: boolean, pending: number) => void;
}

/** What `unbind` tells of the exec that was bound. */
export interface UnboundReport {
  readonly totals: Totals;
  readonly undelivered: number;
  readonly auditHead: AuditHead | undefined;
}

const FLUSH_MS = 2_000;

/**
 * The door of one sandbox: shut when it is made, open for one exec at a time between `bind` and `unbind`, gone with `close`.
 * Nothing of it is shared with another attachment but the process.
 */
export class Attachment {
  readonly #spec: AttachmentSpec;
  readonly #deps: AttachmentDeps;
  readonly #spool: Spool;
  readonly #chain: AuditChain;
  readonly #journal: Journal;
  readonly #delivery: Delivery;
  readonly #keys = new SandboxKeys();
  #auditPool: Http1Pool | undefined;
  #door: Door | undefined;
  #binding: Binding | undefined;
  #lastToken: string | undefined;
  #reportedPending = 0;
  #closing: Promise<void> | undefined;

  private constructor(spec: AttachmentSpec, deps: AttachmentDeps) {
    this.#spec = spec;
    this.#deps = deps;
    this.#spool = new Spool(spec.spoolRecords, spec.spoolPath);
    // The name says whose records they are: the proxy takes no others with a token of this sandbox.
    const writer = `sc-${spec.sandboxId}`;
    this.#chain = new AuditChain('sidecar', this.#spool, { now: deps.now, writer, silent: true });
    this.#delivery = new Delivery({
      spool: this.#spool,
      writer: this.#chain.writer,
      post: (lines) => this.#post(lines),
      log: deps.log,
      onDelivered: () => {
        this.#journal.delivered();
        this.#showPending();
      },
    });
    this.#journal = new Journal({
      sandboxId: spec.sandboxId,
      chain: this.#chain,
      spool: this.#spool,
      measures: deps.measures,
      onDenied: deps.onDenied,
      onSpool: deps.onSpool,
      onRecord: () => {
        this.#showPending();
        if (this.#lastToken !== undefined) this.#delivery.nudge();
      },
    });
  }

  /**
   * Makes the door, shut.
   * @throws {OutriderError} INVALID_REQUEST for a TCP address that others can reach, ADDRESS_IN_USE, CONFIG_INVALID
   */
  static async open(spec: AttachmentSpec, deps: AttachmentDeps): Promise<Attachment> {
    if (!isLoopback(spec.listen))
      throw new OutriderError('INVALID_REQUEST', 'the address of a door must be on loopback');
    const attachment = new Attachment(spec, deps);
    const { door } = await Door.open(spec.listen, spec.owner, {
      limits: spec.limits,
      journal: attachment.#journal,
      measures: deps.measures,
      ruleLimits: new RuleLimits(),
      binding: () => attachment.#binding,
      now: deps.now,
      onFault: (error, requestId) =>
        deps.log.error('a request failed by a fault of ours', { error, requestId }),
    });
    attachment.#door = door;
    deps.measures.attachments.inc();
    return attachment;
  }

  /**
   * Opens the door for one exec; no connection from before is served as its own. Returns the certificate, in PEM, of the CA that it
   * intercepts TLS with; undefined where no rule looks into TLS.
   * @throws {OutriderError} SESSION_BUSY while another is bound
   */
  bind(grant: ExecGrant): string | undefined {
    if (this.#binding)
      throw new OutriderError('SESSION_BUSY', 'another exec is bound to this attachment');
    this.#door?.cutConnections();
    const authority = this.#authorityFor(grant);
    // As many as come in: no answer, however long it goes on, keeps another request waiting.
    const pool = this.#newPool(this.#spec.limits.connections);
    const session = new ProxySession(this.#deps.proxy, this.#deps.proxyTls);
    this.#binding = new Binding(grant, { pool, session, authority });
    this.#lastToken = grant.token.jwt;
    this.#delivery.nudge();
    return authority?.certificate;
  }

  /** Whether this exec is bound now. */
  isBound(execId: string): boolean {
    return this.#binding?.exec.execId === execId;
  }

  /** @throws {OutriderError} EXEC_NOT_FOUND */
  renew(execId: string, token: ExecToken): void {
    this.#bound(execId).renew(token);
    this.#lastToken = token.jwt;
  }

  /**
   * From now on `policy` must allow every target too, and its limits hold where they are stricter. Requests and tunnels that are
   * under way and no longer allowed are cut; says how many that were.
   * @throws {OutriderError} EXEC_NOT_FOUND
   */
  tighten(execId: string, policy: ExecPolicy): number {
    const binding = this.#bound(execId);
    binding.tighten(policy);
    const nowMs = this.#deps.now();
    return this.#journal.cut((exchange) => refusalNow(binding, exchange, nowMs));
  }

  /** Shuts the door, cuts what is open, and delivers the records as far as that takes 2 s. @throws {OutriderError} EXEC_NOT_FOUND */
  async unbind(execId: string): Promise<UnboundReport> {
    const binding = this.#bound(execId);
    await this.#shut();
    await this.#delivery.flush(FLUSH_MS, false);
    return {
      totals: { ...binding.totals },
      undelivered: this.#spool.pending,
      auditHead: this.auditHead,
    };
  }

  /** The last record of the attachment's chain; undefined where nothing was ever asked of the door. */
  get auditHead(): AuditHead | undefined {
    return this.#chain.head.seq < 0 ? undefined : this.#chain.head;
  }

  /** The lines that the proxy has not acknowledged. They are kept, and still delivered where that is possible. */
  undelivered(): readonly string[] {
    return this.#spool.lines();
  }

  /**
   * The end: the socket is gone and every connection cut when the first tick is over; then the records are delivered, for at
   * most 2 s, and the token is forgotten. Never rejects; later calls wait for the first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close().catch((error: unknown) =>
      this.#deps.log.error('an attachment did not close cleanly', {
        error,
        sandboxId: this.#spec.sandboxId,
      }),
    );
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#door?.close();
    await this.#shut();
    this.#journal.finish();
    if (this.auditHead) this.#chain.append({ event: 'end', sandboxId: this.#spec.sandboxId });
    const delivered = this.#lastToken !== undefined && (await this.#delivery.flush(FLUSH_MS, true));
    this.#delivery.stop();
    this.#spool.close();
    this.#lastToken = undefined;
    await this.#auditPool?.destroy();
    this.#deps.measures.attachments.dec();
    if (!delivered && this.auditHead)
      this.#deps.log.error('audit records of a sandbox were not delivered before its end', {
        sandboxId: this.#spec.sandboxId,
        detail: {
          writer: this.#chain.writer,
          undelivered: this.#spool.pending,
          last: this.#chain.head.seq,
        },
      });
    this.#deps.measures.pending.add(-this.#reportedPending);
  }

  async #shut(): Promise<void> {
    const binding = this.#binding;
    this.#binding = undefined;
    this.#journal.cut(() => new Refused('not_bound'));
    this.#door?.cutConnections();
    this.#journal.sumUpRefusals();
    binding?.session.destroy();
    await binding?.pool.destroy();
  }

  #bound(execId: string): Binding {
    const binding = this.#binding;
    if (binding?.exec.execId !== execId)
      throw new OutriderError('EXEC_NOT_FOUND', 'this exec is not bound to the attachment');
    return binding;
  }

  #authorityFor({ policy }: ExecGrant): SandboxAuthority | undefined {
    const hosts = interceptedHosts(policy.compiled.projection);
    if (hosts.length === 0) return undefined;
    return new SandboxAuthority(this.#spec.sandboxId, this.#keys, hosts, this.#deps.now());
  }

  #newPool(connections: number): Http1Pool {
    const { proxy, proxyTls, proxyTimeoutMs } = this.#deps;
    const { idleTimeoutMs } = this.#spec.limits;
    return proxyPool(proxy, { connections, proxyTimeoutMs, idleTimeoutMs }, proxyTls);
  }

  #post(lines: Buffer) {
    if (this.#lastToken === undefined)
      throw new OutriderError('AUDIT_UNAVAILABLE', 'no exec was bound yet');
    this.#auditPool ??= this.#newPool(1);
    return postAudit(this.#auditPool, this.#lastToken, lines);
  }

  #showPending(): void {
    const { pending } = this.#spool;
    this.#deps.measures.pending.add(pending - this.#reportedPending);
    this.#reportedPending = pending;
  }
}

/** Why what is under way may not go on; undefined where it may. */
function refusalNow(
  binding: Binding,
  { target, grant }: Exchange,
  nowMs: number,
): Refused | undefined {
  if (!target) return undefined;
  try {
    const { intercept, rule } = binding.permit(target, nowMs);
    // The rule looks at requests now, and nobody looks into this tunnel. One whose handshake is under way will be looked into.
    const unseen = intercept && !grant?.intercept;
    return unseen ? new Refused('interception_required', { rule }) : undefined;
  } catch (thrown) {
    return toRefused(thrown);
  }
}
