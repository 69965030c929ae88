import { type AuditFields, AuditLabels } from '#core/audit';
import type { ErrorCode, OutriderError } from '#core/errors';
import { redactForm } from '#core/redact';
import { type AllowDecision, spokenIn, type Target, targetText } from '#policies';
import type { Caller } from './authority.ts';
import type { Exchanged } from './forward.ts';
import { denialOf } from './refusal.ts';

const QUERY_MAX_CHARS = 500;
const TARGET_MAX_CHARS = 2_048;
/** Of a refused target: it costs nothing to ask for a long one, and the audit keeps it. */
const REFUSED_TARGET_MAX_CHARS = 256;

/** A record that is being made. */
type Writable = { -readonly [Name in keyof AuditFields]: AuditFields[Name] };

/** What becomes known of one exchange, step by step; exactly one audit record comes of it. */
export class ExchangeRecord {
  /** Of this one request out of the sandbox: the same at its sidecar. */
  readonly egressId: string;
  readonly #began = performance.now();
  readonly #method: string | undefined;
  #ingress: string;
  #protocol: string | undefined;
  #target: string | undefined;
  #datasource: string | undefined;
  #query: string | undefined;
  #allowed: AllowDecision | undefined;
  #labels: AuditLabels | undefined;
  #endedMs: number | undefined;
  #ownMs: number | undefined;
  #keepsQueries = true;

  constructor(egressId: string, ingress: string, method: string | undefined) {
    this.egressId = egressId;
    this.#ingress = ingress;
    this.#method = method;
  }

  get written(): boolean {
    return this.#endedMs !== undefined;
  }

  /** Whose request it is, for the record beside its own fields; undefined until that is known. */
  get labels(): AuditLabels | undefined {
    return this.#labels;
  }

  /** Until now, or its end. */
  get durationMs(): number {
    return this.#endedMs ?? performance.now() - this.#began;
  }

  /** What of that was before the request went on; all of it where none did. */
  get ownMs(): number {
    return this.#ownMs ?? this.durationMs;
  }

  /** Everything of our own has been done: what takes time now is the other side's. */
  sentOn(): void {
    this.#ownMs = this.durationMs;
  }

  calledBy(caller: Caller): void {
    this.#keepsQueries = caller.set.roles.get(caller.role)?.spec.audit?.queries !== false;
    this.#labels = labelsOf(caller);
  }

  aimedAt(target: Target): void {
    this.#protocol = spokenIn(target);
    this.#target = targetText(target);
    if (target.kind !== 'datasource') return;
    this.#ingress = 'alias';
    this.#datasource = `${target.type}/${target.name}`;
    if (target.query !== null) this.asks(target.query);
  }

  /** At something of the proxy's own. */
  aimedAtPath(path: string): void {
    this.#target = path;
  }

  /** The words of a query or statement without its secrets, behind those that are known; the first 500 characters are kept, where the role lets them be. */
  asks(text: string): void {
    if (!this.#keepsQueries) return;
    const before = this.#query === undefined ? '' : `${this.#query} `;
    this.#query = `${before}${redactForm(text)}`.slice(0, QUERY_MAX_CHARS);
  }

  allowedBy(decision: AllowDecision): void {
    this.#allowed = decision;
  }

  /** The record of an exchange that came to its end. Asked for once. */
  completed(exchanged: Partial<Exchanged>): AuditFields {
    return this.#close('allow', exchanged, exchanged.status || undefined);
  }

  /** The record of one that did not. */
  failed(error: OutriderError, status: number, exchanged: Partial<Exchanged>): AuditFields {
    const { reason, rule } = denialOf(error) ?? {};
    const closed = this.#close(verdictOf(error.code), exchanged, exchanged.status || status);
    return { ...closed, code: error.code, reason, ...(rule ? { rule } : {}) };
  }

  /** What is known of it, for a record beside its own. */
  about(event: AuditFields['event'], detail: string): AuditFields {
    const target = this.#target?.slice(0, TARGET_MAX_CHARS);
    return { ...this.#known(event), target, method: undefined, query: undefined, detail };
  }

  #close(
    verdict: AuditFields['verdict'],
    { bytesIn, bytesOut, upstreamMs, redactions }: Partial<Exchanged>,
    status: number | undefined,
  ): AuditFields & Writable {
    this.#endedMs = this.durationMs;
    const record = this.#known('request');
    const targetMax = verdict === 'allow' ? TARGET_MAX_CHARS : REFUSED_TARGET_MAX_CHARS;
    record.target = this.#target?.slice(0, targetMax);
    record.verdict = verdict;
    record.status = status;
    record.bytesIn = bytesIn;
    record.bytesOut = bytesOut;
    record.upstreamMs = upstreamMs ? toMicroseconds(upstreamMs) : undefined;
    record.durationMs = toMicroseconds(this.#endedMs);
    record.detail = redactions ? 'the credential came back and was redacted' : undefined;
    return record;
  }

  /** Every field of its own, each once and in one order: records of one shape are made and written faster. */
  #known(event: AuditFields['event']): Writable {
    const { rule, policy, credential, datasource, reported } = this.#allowed ?? {};
    const asked = credential ?? (datasource && `datasource:${datasource.type}/${datasource.name}`);
    return {
      event,
      egressId: this.egressId,
      ingress: this.#ingress,
      method: this.#method,
      protocol: this.#protocol,
      target: undefined,
      datasource: this.#datasource,
      query: this.#query,
      rule,
      policy,
      credential: asked ?? undefined,
      reportedReason: reported?.reason,
      reportedRule: reported?.rule ?? undefined,
      verdict: undefined,
      status: undefined,
      bytesIn: undefined,
      bytesOut: undefined,
      upstreamMs: undefined,
      durationMs: undefined,
      detail: undefined,
    };
  }
}

/** Milliseconds, to the microsecond. */
function toMicroseconds(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}

/** What labels depend on beside their identity. The policy itself is not kept: an identity is remembered for longer than it is in force. */
interface Known {
  readonly role: string;
  readonly digest: string;
  readonly commit: string | undefined;
  readonly serial: number | undefined;
  readonly labels: AuditLabels;
}

/** Of the last call of each identity: a remembered token is one object, and most of its calls are decided by one policy. */
const LABELS = new WeakMap<object, Known>();

function labelsOf({ identity, role, set: { digest }, revision }: Caller): AuditLabels {
  const { commit, serial } = revision ?? {};
  const known = LABELS.get(identity);
  if (
    known?.role === role &&
    known.digest === digest &&
    known.commit === commit &&
    known.serial === serial
  )
    return known.labels;
  const { execution, principal } = identity;
  const labels = new AuditLabels({
    requestId: execution.requestId,
    tokenId: execution.tokenId,
    issuer: principal.issuer,
    subject: principal.subject,
    tenant: principal.tenant,
    role,
    sandboxId: execution.sandboxId,
    execId: execution.execId,
    policyDigest: digest,
    policyCommit: commit,
    policySerial: serial,
  });
  LABELS.set(identity, { role, digest, commit, serial, labels });
  return labels;
}

/** Whether somebody said no, a limit did, or something broke. */
export function verdictOf(code: ErrorCode): 'deny' | 'limit' | 'error' {
  if (DENIALS.has(code)) return 'deny';
  return code === 'RATE_LIMITED' || code === 'QUOTA_EXCEEDED' ? 'limit' : 'error';
}

const DENIALS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'EGRESS_DENIED',
  'UNAUTHENTICATED',
  'TOKEN_REVOKED',
  'ROLE_DENIED',
  'POLICY_MISMATCH',
  'INVALID_REQUEST',
  'METHOD_NOT_ALLOWED',
  'HEADER_TOO_LARGE',
  'BODY_TOO_LARGE',
  'DATASOURCE_MISSING',
  'DATASOURCE_UNKNOWN',
  'NOT_FOUND',
  'UNIMPLEMENTED',
]);
