import type { AuditFields } from '#core/audit';
import type { ErrorCode, OutriderError } from '#core/errors';
import { type AllowDecision, type Target, targetText } from '#policies';
import type { Caller } from './authority.ts';
import type { Exchanged } from './forward.ts';
import { denialOf } from './refusal.ts';

const QUERY_MAX_CHARS = 500;
const TARGET_MAX_CHARS = 2_048;
/** Of a refused target: it costs nothing to ask for a long one, and the audit keeps it. */
const REFUSED_TARGET_MAX_CHARS = 256;

/** What becomes known of one exchange, step by step; exactly one audit record comes of it. */
export class ExchangeRecord {
  /** Of this one request out of the sandbox: the same at its sidecar. */
  readonly egressId: string;
  readonly #began = performance.now();
  #fields: Omit<AuditFields, 'event'>;
  #written = false;
  #ownMs: number | undefined;
  #keepsQueries = true;

  constructor(egressId: string, ingress: string, method: string | undefined) {
    this.egressId = egressId;
    this.#fields = { egressId, ingress, method };
  }

  get written(): boolean {
    return this.#written;
  }

  get durationMs(): number {
    return performance.now() - this.#began;
  }

  /** What of that was before the request went on; all of it where none did. */
  get ownMs(): number {
    return this.#ownMs ?? this.durationMs;
  }

  /** Everything of our own has been done: what takes time now is the other side's. */
  sentOn(): void {
    this.#ownMs = this.durationMs;
  }

  calledBy({ identity, role, set, revision }: Caller): void {
    const { execution, principal } = identity;
    this.#keepsQueries = set.roles.get(role)?.spec.audit?.queries !== false;
    this.add({
      requestId: execution.requestId,
      tokenId: execution.tokenId,
      issuer: principal.issuer,
      subject: principal.subject,
      tenant: principal.tenant,
      role,
      sandboxId: execution.sandboxId,
      execId: execution.execId,
      policyDigest: set.digest,
      policyCommit: revision?.commit,
      policySerial: revision?.serial,
    });
  }

  aimedAt(target: Target): void {
    this.add({
      target: targetText(target),
      ...(target.kind === 'datasource'
        ? { ingress: 'alias', datasource: `${target.type}/${target.name}` }
        : {}),
    });
    if (target.kind === 'datasource' && target.query !== null) this.asks(target.query);
  }

  /** The words of a query or statement, behind those that are known; the first 500 characters are kept, where the role lets them be. */
  asks(text: string): void {
    if (!this.#keepsQueries) return;
    const before = this.#fields.query === undefined ? '' : `${this.#fields.query} `;
    this.add({ query: `${before}${text}`.slice(0, QUERY_MAX_CHARS) });
  }

  allowedBy({ rule, policy, credential, datasource, reported }: AllowDecision): void {
    const asked = credential ?? (datasource && `datasource:${datasource.type}/${datasource.name}`);
    this.add({
      rule,
      policy,
      ...(asked ? { credential: asked } : {}),
      ...(reported
        ? { reportedReason: reported.reason, reportedRule: reported.rule ?? undefined }
        : {}),
    });
  }

  add(fields: Omit<AuditFields, 'event'>): void {
    this.#fields = { ...this.#fields, ...fields };
  }

  /** The record of an exchange that came to its end. Asked for once. */
  completed(exchanged: Partial<Exchanged>): AuditFields {
    return this.#close({ verdict: 'allow', ...measured(exchanged) });
  }

  /** The record of one that did not. */
  failed(error: OutriderError, status: number, exchanged: Partial<Exchanged>): AuditFields {
    const denial = denialOf(error);
    return this.#close({
      verdict: verdictOf(error.code),
      code: error.code,
      reason: denial?.reason,
      ...(denial?.rule ? { rule: denial.rule } : {}),
      ...measured(exchanged),
      status: exchanged.status || status,
    });
  }

  /** What is known of it, for a record beside its own. */
  about(event: AuditFields['event'], detail: string): AuditFields {
    const { method: _method, query: _query, ...known } = this.#fields;
    return { ...known, event, target: known.target?.slice(0, TARGET_MAX_CHARS), detail };
  }

  #close(fields: Omit<AuditFields, 'event'>): AuditFields {
    this.#written = true;
    return {
      event: 'request',
      ...this.#fields,
      ...fields,
      target: this.#fields.target?.slice(
        0,
        fields.verdict === 'allow' ? TARGET_MAX_CHARS : REFUSED_TARGET_MAX_CHARS,
      ),
      durationMs: Math.round(this.durationMs * 1_000) / 1_000,
    };
  }
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

function measured(exchanged: Partial<Exchanged>): Omit<AuditFields, 'event'> {
  const { status, bytesIn, bytesOut, upstreamMs, redactions } = exchanged;
  return {
    ...(status ? { status } : {}),
    ...(bytesIn === undefined ? {} : { bytesIn }),
    ...(bytesOut === undefined ? {} : { bytesOut }),
    ...(upstreamMs ? { upstreamMs: Math.round(upstreamMs * 1_000) / 1_000 } : {}),
    ...(redactions ? { detail: 'the credential came back and was redacted' } : {}),
  };
}
