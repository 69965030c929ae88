import { join } from 'node:path';
import {
  address,
  bool,
  bytes,
  type ConfigOf,
  choice,
  duration,
  type Field,
  list,
  optionalText,
  record,
  text,
} from '#core/config';
import { keySetPaths } from '#core/keys';
import { meshUser } from '#core/mesh-user';
import { LOOPBACK_HOSTS, LOOPBACK_ORIGINS } from './host-origin.ts';

/** Signatures that an issuer may use. No symmetric one: whoever can check those can also forge them. */
export const ALGORITHMS = [
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

const httpUrl: Pick<Field<URL>, 'kind' | 'parse'> = {
  kind: 'http or https URL',
  parse: (raw) => {
    const url = typeof raw === 'string' && URL.canParse(raw) ? new URL(raw) : undefined;
    if (url === undefined || !/^https?:$/.test(url.protocol))
      throw new Error(`must be an http or https URL, not ${JSON.stringify(raw)}`);
    if (url.username !== '' || url.password !== '')
      throw new Error('must be a URL without a user name and a password');
    return url;
  },
};

const word = text('');

const issuerSpec = {
  issuer: text('The `iss` of its tokens, exactly.'),
  jwks: text('Its public keys: an https URL (http on loopback only) or the path of a file.'),
  audience: text('The `aud` that its tokens for this gateway carry.'),
  algorithms: list('Signatures it may use.', choice('', ALGORITHMS), ['RS256', 'ES256', 'EdDSA']),
  scopes: list('Scopes that a token must have, all of them.', word, []),
  groupsClaim: text('The claim that lists the groups.', 'groups'),
  tenantClaim: optionalText('The claim that names the tenant; without it the tenant is empty.'),
  claims: list('Further text claims that Roles may ask for.', word, []),
  jwksCooldown: duration('How soon its keys may be fetched again for an unknown key.', 5_000),
};

/** The configuration of the gateway. `paths.state` holds the local token, `paths.runtime` the keys. */
export function gatewaySpec(paths: { readonly runtime: string; readonly state: string }) {
  return {
    listen: address(
      'Where MCP clients connect, in clear. Beyond loopback only with `allowedHosts`, and with TLS that ends in front of it.',
      '127.0.0.1:8788',
    ),
    servers: list('MCP servers behind this gateway, with their path.', httpUrl, [
      new URL('http://127.0.0.1:8790/mcp'),
    ]),
    allowedHosts: list(
      'Names that clients call this gateway by: `name` with any port, or `name:port`.',
      word,
      LOOPBACK_HOSTS,
    ),
    allowedOrigins: list(
      'Origins of web pages that may call: `scheme://host[:port]`; port `*` is any.',
      word,
      LOOPBACK_ORIGINS,
    ),
    localTokenFile: text(
      'File with the token of the local principal, readable by its owner only.',
      join(paths.state, 'token'),
    ),
    issuers: list('Identity providers whose tokens are accepted.', record('', issuerSpec), []),
    insecure: bool('Every caller is the local principal, without a token. Loopback only.', false),
    signingKey: text(
      "The gateway's own key: it signs who is calling.",
      keySetPaths(join(paths.runtime, 'keys')).gateway,
    ),
    maxBody: bytes('The largest request taken.', 2 ** 20),
    drainTimeout: duration('How long calls may run on after a signal to stop.', 5_000),
    user: meshUser(),
    logLevel: choice('What is logged.', ['debug', 'info', 'warn', 'error'], 'info'),
  } as const;
}

export type GatewayConfig = ConfigOf<ReturnType<typeof gatewaySpec>>;
export type IssuerConfig = ConfigOf<typeof issuerSpec>;
