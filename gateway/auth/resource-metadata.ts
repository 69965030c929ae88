import type { GatewayConfig, IssuerConfig } from '../config.ts';

/** What tells a client without a token where to get one: OAuth 2.0 Protected Resource Metadata (RFC 9728). */
export interface ResourceMetadata {
  /** Where it can be read, for challenges. */
  readonly url: string;
  /** The paths at which this gateway answers with `document`: with and without the resource's own path. */
  readonly paths: ReadonlySet<string>;
  readonly document: Readonly<Record<string, unknown>>;
}

const WELL_KNOWN = '/.well-known/oauth-protected-resource';

/** Undefined where the gateway does not know its own URL, or takes no token that anybody could be sent to get. */
export function resourceMetadata({
  publicUrl,
  issuers,
}: Pick<GatewayConfig, 'publicUrl' | 'issuers'>): ResourceMetadata | undefined {
  if (!publicUrl || issuers.length === 0) return undefined;
  const scopes = scopesOf(issuers);
  const path = publicUrl.pathname === '/' ? '' : publicUrl.pathname;
  return {
    url: `${publicUrl.origin}${WELL_KNOWN}${path}`,
    // A proxy in front may have taken a part of the path away: what is left of it is /mcp.
    paths: new Set([WELL_KNOWN, `${WELL_KNOWN}${path}`, `${WELL_KNOWN}/mcp`]),
    document: {
      // Exactly what the client was given: it compares the two (section 3.3).
      resource: path === '' ? publicUrl.origin : publicUrl.href,
      authorization_servers: issuers.map(({ issuer }) => issuer),
      bearer_methods_supported: ['header'],
      ...(scopes.length === 0 ? {} : { scopes_supported: scopes }),
    },
  };
}

/** What tokens must have, of whatever issuer they are. */
export function scopesOf(issuers: readonly IssuerConfig[]): readonly string[] {
  return [...new Set(issuers.flatMap((issuer) => issuer.scopes))];
}
