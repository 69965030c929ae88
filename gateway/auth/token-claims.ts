import type { JWTPayload } from 'jose';
import { issuedPrincipal, textsOf } from '#core/issued-tokens';
import type { Principal } from '#core/principal';
import { CLOCK_TOLERANCE_S } from '#core/tokens';
import type { IssuerConfig } from '../config.ts';
import type { AuthFailure } from './challenge.ts';

/** Who a token stands for, or why it stands for nobody. `scopes` are those that its issuer's tokens must have. */
export type TokenVerdict =
  | { readonly ok: true; readonly principal: Principal }
  | {
      readonly ok: false;
      readonly reason: AuthFailure;
      readonly scopes: readonly string[];
      readonly cause?: unknown;
      /** When another try may be worth it, where only time helps. */
      readonly retryAfterMs?: number | undefined;
    };

/** What the claims of a genuine token say: its issuer, audience, time and scopes must be right, and name somebody. */
export function verdictOf(claims: JWTPayload, issuer: IssuerConfig, nowMs: number): TokenVerdict {
  const refuse = (reason: AuthFailure): TokenVerdict => ({
    ok: false,
    reason,
    scopes: issuer.scopes,
  });
  const nowS = nowMs / 1_000;
  if (typeof claims.exp === 'number' && claims.exp + CLOCK_TOLERANCE_S <= nowS)
    return refuse('expired');
  if (typeof claims.nbf === 'number' && claims.nbf - CLOCK_TOLERANCE_S > nowS)
    return refuse('not_yet_valid');
  if (claims.iss !== issuer.issuer || ![claims.aud].flat().includes(issuer.audience))
    return refuse('claims');
  return grantedTo(claims, issuer);
}

/** The same where issuer, audience and time have been held against them already. */
export function grantedTo(claims: JWTPayload, issuer: IssuerConfig): TokenVerdict {
  // Of no bearer (RFC 7800 3.1, RFC 8705 3, RFC 9449 7.1): whoever stole it could use it, since no proof is asked for here.
  if (claims['cnf'] !== undefined) return { ok: false, reason: 'bound', scopes: issuer.scopes };
  const scopes = scopesOf(claims);
  if (!issuer.scopes.every((scope) => scopes.has(scope)))
    return { ok: false, reason: 'scope', scopes: issuer.scopes };
  const principal = issuedPrincipal(claims, issuer);
  if (!principal) return { ok: false, reason: 'claims', scopes: issuer.scopes };
  return { ok: true, principal };
}

/** `scope` of RFC 8693, a text with spaces, or the `scp` of some providers, a text or a list. */
function scopesOf(payload: JWTPayload): ReadonlySet<string> {
  const claimed = [payload['scope'], payload['scp']].flatMap(textsOf);
  return new Set(claimed.flatMap((text) => text.split(' ')));
}
