/** No token of ours comes near it; a larger one is refused before it is parsed. */
const TOKEN_MAX_BYTES = 16_384;

/** What is wrong with a token, by the names that `policies/reason.ts` has for it. */
export type TokenReason =
  | 'jwt_none'
  | 'jwt_alg_confusion'
  | 'jwt_kid'
  | 'jwt_jku'
  | 'jwt_x5u'
  | 'jwt_jwk'
  | 'jwt_crit'
  | 'jwt_b64'
  | 'jwt_dup_json'
  | 'jwt_too_large'
  | 'jwt_encoding'
  | 'jwt_iat'
  | 'jwt_iss'
  | 'jwt_aud_multi'
  | 'jwt_cnf_mismatch';

/** A cause, for the log and the audit: the caller learns only that the token is not valid. */
export class TokenFault extends Error {
  override readonly name = 'TokenFault';
  readonly reason: TokenReason;
  constructor(reason: TokenReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/**
 * Looks at a token of ours before its signature is: it has the one spelling that our signers give it, its header names `algorithm`
 * and nothing that would choose a key, and says who claims to have issued it, which chooses among pinned keys only (RFC 8725).
 * @throws {TokenFault}
 */
export function assertPlainToken(jwt: string, algorithm: string): { readonly issuer: string } {
  if (jwt.length >= TOKEN_MAX_BYTES) throw new TokenFault('jwt_too_large', 'too large');
  const parts = jwt.split('.');
  const [header = '', payload = '', signature = ''] = parts;
  if (parts.length !== 3 || !parts.every(isCanonicalBase64url))
    throw new TokenFault('jwt_encoding', 'not the canonical encoding');
  assertHeader(objectOf(header), algorithm);
  if (signature === '') throw new TokenFault('jwt_none', 'no signature');
  const { iss } = objectOf(payload);
  return { issuer: typeof iss === 'string' ? iss : '' };
}

/** Fields of a header that bring a key along, or say where one is (RFC 7515 4.1). */
const NAMES_A_KEY = {
  jku: 'jwt_jku',
  x5u: 'jwt_x5u',
  jwk: 'jwt_jwk',
  x5c: 'jwt_jwk',
  x5t: 'jwt_jwk',
  'x5t#S256': 'jwt_jwk',
} as const satisfies Record<string, TokenReason>;

function assertHeader(header: Readonly<Record<string, unknown>>, algorithm: string): void {
  const { alg, kid } = header;
  if (typeof alg !== 'string' || alg.toLowerCase() === 'none')
    throw new TokenFault('jwt_none', 'not signed');
  if (alg !== algorithm) throw new TokenFault('jwt_alg_confusion', `signed by ${algorithm} only`);
  for (const [field, reason] of Object.entries(NAMES_A_KEY))
    if (field in header) throw new TokenFault(reason, `the header has ${field}`);
  if ('b64' in header) throw new TokenFault('jwt_b64', 'the header has b64');
  if ('crit' in header) throw new TokenFault('jwt_crit', 'the header has crit');
  // It chooses among pinned keys and is never a path or a query: what could be one is not even compared.
  if (kid !== undefined && !(typeof kid === 'string' && /^[\w-]{1,64}$/.test(kid)))
    throw new TokenFault('jwt_kid', 'a key id that none of ours has');
}

/** Whether a part is the one base64url spelling of its bytes: otherwise one token would have several texts (RFC 7515 2). */
function isCanonicalBase64url(part: string): boolean {
  return Buffer.from(part, 'base64url').toString('base64url') === part;
}

/** One spelling of its JSON, too: a name that is given twice, two readers may read differently. */
function objectOf(part: string): Readonly<Record<string, unknown>> {
  const text = Buffer.from(part, 'base64url').toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new TokenFault('jwt_encoding', 'not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TokenFault('jwt_encoding', 'not an object');
  if (JSON.stringify(value) !== text)
    throw new TokenFault('jwt_dup_json', 'not the one spelling of its JSON');
  return { ...value };
}
