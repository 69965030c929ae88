/** Why a caller was not let in; the label of `outrider_auth_failures_total`. A closed list. */
export const AUTH_FAILURES = {
  missing: 'send a token: Authorization: Bearer ...',
  malformed: 'the Authorization header is not a bearer token',
  unknown: 'the token is not known here',
  expired: 'the token has expired',
  not_yet_valid: 'the token is not valid yet',
  claims: 'the token is not meant for this gateway',
  signature: "the token's signature is not valid",
  type: 'the token is no access token',
  bound: 'the token is bound to a key or a certificate: what is taken here is a token without cnf',
  scope: 'the token lacks a scope',
  keys_unavailable: 'the identity provider cannot be asked',
} as const;

export type AuthFailure = keyof typeof AUTH_FAILURES;

/**
 * The value of `WWW-Authenticate` (RFC 6750 section 3): without an error where no token came, `invalid_token` where one was refused,
 * `insufficient_scope` where it has too few; each with the scopes that a token must have, and with the URL of the metadata that names the
 * issuers (RFC 9728 section 5.1), where there are some. Undefined where no other token would help.
 */
export function challenge(
  reason: AuthFailure,
  scopes: readonly string[],
  metadata?: string,
): string | undefined {
  if (reason === 'keys_unavailable') return undefined;
  // RFC 6749 section 3.3 leaves no quote and no backslash in a scope; configuration is not trusted to know.
  const wanted = scopes.join(' ').replaceAll(/["\\]/g, '');
  const parts = [
    'realm="outrider"',
    ...(metadata === undefined ? [] : [`resource_metadata="${metadata}"`]),
    ...errorOf(reason),
    ...(wanted === '' ? [] : [`scope="${wanted}"`]),
  ];
  return `Bearer ${parts.join(', ')}`;
}

function errorOf(reason: AuthFailure): readonly string[] {
  if (reason === 'missing') return [];
  return reason === 'scope'
    ? ['error="insufficient_scope"']
    : ['error="invalid_token"', `error_description="${AUTH_FAILURES[reason]}"`];
}
