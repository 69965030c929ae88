import type { Http1Pool } from '#core/http1/client';
import {
  type Decision,
  decide,
  nearTo,
  type RolePolicy,
  spokenTo,
  stricterLimits,
  type Target,
  type TunnelTarget,
  targetText,
} from '#policies';
import type { ProxySession } from './proxy-session.ts';
import { Refused } from './refusal.ts';
import type { SandboxAuthority } from './tls/authority.ts';

/** What the runner says when it binds an exec to a door. */
export interface ExecGrant {
  readonly execId: string;
  /** Of the call that started the exec; joins the records of every part. */
  readonly requestId: string | undefined;
  readonly role: string;
  readonly policy: ExecPolicy;
  readonly token: ExecToken;
  readonly principal: PrincipalLabels;
}

/** What an exec's door has besides its grant. */
export interface DoorMeans {
  readonly pool: Http1Pool;
  /** For what is HTTP/2 all the way. */
  readonly session: ProxySession;
  /** Signs for the hosts of the policy at claim; absent where no rule of it looks into TLS. */
  readonly authority: SandboxAuthority | undefined;
}

/** A role's policy and where it comes from. */
export interface ExecPolicy {
  readonly compiled: RolePolicy;
  /** Of the whole policy set. */
  readonly digest: string;
  readonly commit?: string | undefined;
  readonly serial?: number | undefined;
}

/** The execution token: it stands on the hop to the proxy and nowhere else. */
export interface ExecToken {
  readonly jwt: string;
  /** Its `jti`, for records. */
  readonly id: string | undefined;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

/** For records only: nothing is decided by them. */
export interface PrincipalLabels {
  readonly issuer: string;
  readonly subject: string;
  readonly tenant: string;
}

export type Grant = Extract<Decision, { verdict: 'allow' }>;

/** What became of the requests of one exec. */
export interface Totals {
  allowed: number;
  denied: number;
  limited: number;
  failed: number;
  bytesOut: number;
  bytesIn: number;
}

/** How far past its end a token is still tried; the proxy's clock decides. */
const CLOCK_TOLERANCE_MS = 5_000;

/** One exec at one door: its policy, which can only become narrower, its token, its connections and its counters. */
export class Binding {
  readonly exec: Omit<ExecGrant, 'policy' | 'token'>;
  readonly pool: Http1Pool;
  readonly session: ProxySession;
  readonly authority: SandboxAuthority | undefined;
  readonly totals: Totals = {
    allowed: 0,
    denied: 0,
    limited: 0,
    failed: 0,
    bytesOut: 0,
    bytesIn: 0,
  };
  /** Refusals that have been reported to the runner as they happened. */
  reported = 0;
  /** Different ones, that of the claim first. */
  readonly #policies: RolePolicy[];
  #newest: ExecPolicy;
  #token: ExecToken;

  constructor({ policy, token, ...exec }: ExecGrant, { pool, session, authority }: DoorMeans) {
    this.exec = exec;
    this.pool = pool;
    this.session = session;
    this.authority = authority;
    this.#policies = [policy.compiled];
    this.#newest = policy;
    this.#token = token;
  }

  /** The newest. */
  get policy(): ExecPolicy {
    return this.#newest;
  }

  /** What every policy since the claim allows, within the stricter of their limits. @throws {Refused} with the reason and rule of the first that does not */
  permit(target: Target, nowMs: number): Grant {
    let grant: Grant | undefined;
    for (const compiled of this.#policies) {
      const decision = decide(compiled, target, nowMs);
      if (decision.verdict === 'deny')
        throw new Refused(decision.reason, {
          rule: decision.rule,
          target: targetText(target),
          allowed: () => nearTo(compiled, target),
        });
      grant = grant === undefined ? decision : stricter(grant, decision);
    }
    if (grant === undefined) throw new Refused('no_policy');
    return grant;
  }

  /** What to offer a program that opens a connection: what its claim's rules speak there. Every request is then decided for itself. */
  spokenTo(target: TunnelTarget, scheme: 'http' | 'https'): ReadonlySet<string> {
    const [first] = this.#policies;
    return first === undefined ? new Set() : spokenTo(first, target, scheme);
  }

  /** From now on `policy` must allow a target too. */
  tighten(policy: ExecPolicy): void {
    this.#newest = policy;
    // Most reloads change nothing for a role: what allows the same need not be asked twice.
    if (!this.#policies.includes(policy.compiled)) this.#policies.push(policy.compiled);
  }

  renew(token: ExecToken): void {
    this.#token = token;
  }

  /** The token for the next hop. @throws {Refused} jwt_exp when the runner has not renewed it */
  token(nowMs: number): string {
    if (nowMs > this.#token.expiresAt + CLOCK_TOLERANCE_MS)
      throw new Refused('jwt_exp', { status: 503 });
    return this.#token.jwt;
  }

  get tokenId(): string | undefined {
    return this.#token.id;
  }

  /** The token for delivering records: the proxy takes it for an hour after its end. */
  get lastToken(): string {
    return this.#token.jwt;
  }
}

/** @throws {Refused} not_bound */
export function assertBound(binding: Binding | undefined): Binding {
  if (!binding) throw new Refused('not_bound');
  return binding;
}

/** Names of the older grant, precautions and limits of both. */
function stricter(older: Grant, newer: Grant): Grant {
  return {
    ...older,
    credential: older.credential ?? newer.credential,
    intercept: older.intercept || newer.intercept,
    limits: stricterLimits(older.limits, newer.limits),
  };
}
