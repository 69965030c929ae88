import type { JWTPayload } from 'jose';
import type { Principal } from './principal.ts';

/** Signatures that an issuer may use. No symmetric one: whoever can check those can also forge them. */
export const ISSUER_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const;

/** Longer tokens of an issuer are refused before they are parsed. */
export const ISSUED_TOKEN_MAX_CHARACTERS = 16_384;

/**
 * Whether the `typ` of a token's header is that of one which may give access: `at+jwt` (RFC 9068 2.1), or `JWT` or none, since many
 * issuers say no more. Any other is for something else, whoever signed it (RFC 8725 3.11).
 */
export function isAccessTokenType(typ: string | undefined): boolean {
  const type = typ?.toLowerCase().replace(/^application\//, '') ?? 'jwt';
  return type === 'jwt' || type === 'at+jwt';
}

/** What may choose among configured issuers and no more, or why a token is no JWT, by the names that `policies/reason.ts` has for it. */
export type UnverifiedIssuer =
  | { readonly issuer: string }
  | { readonly fault: 'jwt_encoding' | 'jwt_too_large' };

/** The `iss` of a token of which nothing is verified; empty where it has none. Never throws. */
export function unverifiedIssuer(token: string): UnverifiedIssuer {
  const parts = token.split('.');
  if (parts.length !== 3) return { fault: 'jwt_encoding' };
  if (token.length > ISSUED_TOKEN_MAX_CHARACTERS) return { fault: 'jwt_too_large' };
  try {
    const payload: unknown = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString('utf8'));
    const issuer =
      typeof payload === 'object' && payload !== null && 'iss' in payload ? payload.iss : '';
    return { issuer: typeof issuer === 'string' ? issuer : '' };
  } catch {
    return { fault: 'jwt_encoding' };
  }
}

/** Which claims of an issuer's tokens say what of a principal. */
export interface PrincipalClaims {
  readonly issuer: string;
  readonly groupsClaim: string;
  /** Absent: the tenant is empty. */
  readonly tenantClaim?: string | undefined;
  /** Further claims to keep, where they are text. */
  readonly claims: readonly string[];
}

/**
 * Whom the claims of a verified token name. Undefined where `sub` is absent or empty, since that would be one principal for many.
 * Empty groups, and what is no text, are left out.
 */
export function issuedPrincipal(
  payload: JWTPayload,
  { issuer, groupsClaim, tenantClaim, claims }: PrincipalClaims,
): Principal | undefined {
  const { sub } = payload;
  if (typeof sub !== 'string' || sub === '') return undefined;
  const tenant = tenantClaim === undefined ? undefined : payload[tenantClaim];
  return {
    issuer,
    subject: sub,
    tenant: typeof tenant === 'string' ? tenant : '',
    groups: textsOf(payload[groupsClaim]),
    claims: Object.fromEntries(
      claims.flatMap((name) => {
        const value = payload[name];
        return typeof value === 'string' ? [[name, value]] : [];
      }),
    ),
  };
}

/** A claim that may be one text or a list of them: those that are text and not empty. */
export function textsOf(claim: unknown): string[] {
  return [claim].flat().filter((item): item is string => typeof item === 'string' && item !== '');
}
