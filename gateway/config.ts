import { join } from 'node:path';
import { AUDIT_LEAST_BYTES, AUDIT_ROTATION } from '#core/audit';
import {
  address,
  bool,
  bytes,
  type ConfigOf,
  choice,
  duration,
  type Field,
  integer,
  list,
  optionalText,
  record,
  text,
} from '#core/config';
import { drainNotice } from '#core/drain-notice';
import { ISSUER_ALGORITHMS } from '#core/issued-tokens';
import { keyTimes } from '#core/issuer-list';
import { keySetPaths } from '#core/keys';
import { meshUser } from '#core/mesh-user';
import { policySpec } from '#policystore/config';
import { LOOPBACK_HOSTS, LOOPBACK_ORIGINS } from './host-origin.ts';

const httpUrl: Pick<Field<URL>, 'kind' | 'parse'> = {
  kind: 'http or https URL',
  parse: (raw) => {
    const given = typeof raw === 'string' ? raw : '';
    const url = URL.canParse(given) ? new URL(given) : undefined;
    const isHttp = url !== undefined && /^https?:$/.test(url.protocol);
    if (isHttp && url.username === '' && url.password === '') return url;
    // Where an @ is, a password may be: it is not repeated.
    throw new Error(
      isHttp || given.includes('@')
        ? 'must be an http or https URL without a user name and a password'
        : `must be an http or https URL, not ${JSON.stringify(raw)}`,
    );
  },
};

/** An http or https URL that may be absent. */
function optionalUrl(doc: string): Field<URL | undefined> {
  return {
    doc,
    kind: httpUrl.kind,
    default: undefined,
    parse: (raw) => (raw === '' ? undefined : httpUrl.parse(raw)),
  };
}

const word = text('');

const issuerSpec = {
  issuer: text('The `iss` of its tokens, exactly.'),
  jwks: optionalText(
    'Its public keys: an https URL (http on loopback only) or the path of a file; without it they are found by OpenID Connect Discovery.',
  ),
  introspection: optionalText(
    'Where it is asked about each token (RFC 7662), instead of checking signatures; at most one issuer has this.',
  ),
  introspectionClient: optionalText('What it knows this gateway by.'),
  introspectionSecretFile: optionalText('File with the secret that goes with it.'),
  audience: text('The `aud` that its tokens for this gateway carry.'),
  algorithms: list('Signatures it may use.', choice('', ISSUER_ALGORITHMS), [
    'RS256',
    'ES256',
    'EdDSA',
  ]),
  scopes: list('Scopes that a token must have, all of them.', word, []),
  groupsClaim: text('The claim that lists the groups.', 'groups'),
  tenantClaim: optionalText('The claim that names the tenant; without it the tenant is empty.'),
  claims: list('Further text claims that Roles may ask for.', word, []),
  ...keyTimes,
};

/** The configuration of the gateway. `paths.state` holds the local token, `paths.runtime` the keys. */
export function gatewaySpec(paths: { readonly runtime: string; readonly state: string }) {
  return {
    listen: address(
      'Where MCP clients connect, in clear. Beyond loopback only with `allowedHosts`, and with TLS that ends in front of it.',
      '127.0.0.1:8788',
    ),
    servers: list(
      'MCP servers behind this gateway, with their path, and a query where they want one.',
      httpUrl,
      [new URL('http://127.0.0.1:8790/mcp')],
    ),
    serversFrom: choice(
      'list: the servers are those; dns: each name stands for all of its addresses, looked up every 5 s.',
      ['list', 'dns'],
      'list',
    ),
    serverWeights: list(
      'Shares of what is new, in the order of `servers`; 1 for those not named.',
      integer('', 1, 1_000),
      [],
    ),
    serversDraining: list(
      'Those of `servers` that get no new session and no call without one.',
      httpUrl,
      [],
    ),
    serversAre: choice(
      'ours: they are told who calls, with a principal assertion; foreign: they learn nothing of the caller.',
      ['ours', 'foreign'],
      'ours',
    ),
    healthInterval: duration(
      'How often each server is checked; three failures take it out.',
      10_000,
      100,
    ),
    sessionKeys: text(
      'File of the keys that session ids are sealed with, the same for all replicas; made where it is missing, on loopback only.',
      join(paths.state, 'gateway', 'session-keys.json'),
    ),
    sessionMax: duration('How long a session lasts at most.', 24 * 3_600_000, 1_000),
    recovery: bool(
      'Whether a session whose server is gone is begun again at another, with what its client once said. Only for servers that keep nothing in a session that matters.',
      false,
    ),
    recoveryDirectory: optionalText(
      'Directory in which the gateways of one machine tell each other where such sessions went, what was set in them, and which sessions ended.',
    ),
    recoveryRedis: optionalText(
      'Redis in which gateways of any machine do so instead: redis://[user@]host[:port][/database], rediss:// with TLS.',
    ),
    recoveryRedisPasswordFile: optionalText('File with its password.'),
    safeTools: list(
      'Tools that may be called again where it is unknown whether the first call took effect.',
      word,
      [],
    ),
    ...policySpec('gateway', paths.state),
    policies: optionalText(
      'Directory of policy documents, or a bundle of them, whose Roles say who may call which tool; without it the servers say that alone.',
    ),
    principalRate: integer(
      'Requests that a principal may send in a minute, all of them at once where it has sent none for a minute; 0: any number.',
      0,
      10_000_000,
      0,
    ),
    principalConcurrent: integer(
      'Requests and open streams that a principal may have at once; 0: any number.',
      0,
      1_000_000,
      0,
    ),
    audit: text(
      'File that gets a record of every tool call.',
      join(paths.state, 'audit/gateway.jsonl'),
    ),
    auditMaxBytes: bytes(
      'How large that file becomes before another is begun.',
      AUDIT_ROTATION.maxBytes,
      AUDIT_LEAST_BYTES,
    ),
    auditFiles: integer(
      'How many such files are kept, the current one included; the oldest beyond that are removed.',
      2,
      100_000,
      AUDIT_ROTATION.files,
    ),
    auditKeys: text('Directory of the key that signs the audit.', join(paths.state, 'audit-keys')),
    auditArguments: bool(
      'Whether those records hold the arguments, at most 500 characters, without what looks like a secret.',
      false,
    ),
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
    staticTokens: optionalText(
      'File of tokens for machines: {"tokens": [{"sha256": "<hex>", "subject": "<name>", "groups": [], "expires": "2027-06-30"}]}.',
    ),
    issuers: list('Identity providers whose tokens are accepted.', record('', issuerSpec), []),
    publicUrl: optionalUrl(
      'The URL that clients know this gateway by, with its path. With it, clients without a token are told which issuers to go to (RFC 9728).',
    ),
    insecure: bool('Every caller is the local principal, without a token. Loopback only.', false),
    signingKey: text(
      "The gateway's own key: it signs who is calling.",
      keySetPaths(join(paths.runtime, 'keys')).gateway,
    ),
    maxBody: bytes('The largest request taken.', 2 ** 20, 1_024),
    drainNotice,
    drainTimeout: duration('How long calls may run on after a signal to stop.', 25_000),
    user: meshUser(),
    logLevel: choice('What is logged.', ['debug', 'info', 'warn', 'error'], 'info'),
  } as const;
}

export type GatewayConfig = ConfigOf<ReturnType<typeof gatewaySpec>>;
export type IssuerConfig = ConfigOf<typeof issuerSpec>;

/** What a gateway takes over while it runs; everything else waits for a restart. Policies and session keys are read again by themselves. */
export const RELOADABLE = [
  'servers',
  'serversFrom',
  'serverWeights',
  'serversDraining',
  'principalRate',
  'principalConcurrent',
  'safeTools',
] as const satisfies readonly (keyof GatewayConfig)[];

/** The keys in which two configurations of one part differ. */
export function changedKeys(
  before: Readonly<Record<string, unknown>>,
  after: Readonly<Record<string, unknown>>,
): string[] {
  return Object.keys(before).filter(
    (key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]),
  );
}
