import { join } from 'node:path';
import { parseAddress } from '#core/address';
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
  optionalAddress,
  optionalText,
  record,
  type Spec,
  text,
} from '#core/config';
import { ISSUER_ALGORITHMS } from '#core/issued-tokens';
import { keyTimes } from '#core/issuer-list';
import { keySetPaths } from '#core/keys';
import { meshUser } from '#core/mesh-user';
import { policySpec } from '#policystore/config';
import { dnsServer, keyPlace, optionalSecretRef } from './config-fields.ts';
import { limitsSpec } from './limits/config.ts';
import { parseUpstreamProxy } from './via-proxy.ts';

const issuerSpec = {
  issuer: text('The `iss` of its tokens, exactly.'),
  jwks: optionalText(
    'Its public keys: an https URL (http on loopback only); without it, what its discovery document says.',
  ),
  audience: text('The `aud` that its tokens for this proxy carry.'),
  algorithms: list('Signatures it may use.', choice('', ISSUER_ALGORITHMS), [
    'RS256',
    'ES256',
    'EdDSA',
  ]),
  groups: list('Of these groups a caller must be in one; empty: anybody may.', text(''), []),
  groupsClaim: text('The claim that lists the groups.', 'groups'),
  tenantClaim: optionalText('The claim that names the tenant; without it the tenant is empty.'),
  claims: list('Further text claims that Roles may ask for.', text(''), []),
  ...keyTimes,
};

/** Every key of the section `proxy`. */
export function proxySpec(paths: { runtime: string; state: string }) {
  const keys = keySetPaths(join(paths.runtime, 'keys'));
  return {
    listen: address(
      'Where sidecars call: a unix socket (mode 0600) or a TCP address, beyond loopback with `serverTls` only.',
      `unix:${join(paths.runtime, 'proxy.sock')}`,
    ),
    tcp: optionalAddress(
      'A second listener, for sidecars that cannot open the socket, for example 127.0.0.1:18081; beyond loopback with `serverTls` only.',
    ),
    'serverTls.cert': optionalText(
      'PEM files with which the TCP listeners speak TLS and demand client certificates: the certificate of this proxy, with its chain;',
    ),
    'serverTls.key': optionalText('its key;'),
    'serverTls.clientCa': optionalText('the authorities that sign the certificates of sidecars.'),
    workers: integer(
      'How many processes serve requests, of the one proxy that they are together: with more than one the first process only shares out the connections, counts limits and budgets for all, stores the records of sidecars, and answers at `admin`.',
      1,
      64,
      1,
    ),
    admin: address('Where /livez, /readyz and /metrics answer.', '127.0.0.1:8794'),
    ...policySpec('proxy', paths.state),
    'keys.assertionIssuers': text(
      'The public keys that principal assertions are verified with.',
      keys.assertionIssuers,
    ),
    'keys.executionIssuers': text(
      'The public keys that execution tokens are verified with.',
      keys.executionIssuers,
    ),
    issuers: list(
      'Identity providers whose access tokens are exchanged for execution tokens at `/.outrider/token` (RFC 8693); empty: none is.',
      record('', issuerSpec),
      [],
    ),
    'exchange.signingKey': optionalText(
      'The key that signs exchanged tokens, of which all proxies of a mesh need the same; made anew at each start where there is none.',
    ),
    auth: choice(
      'Who may call without an execution token: nobody (jwt), whoever has the token of `tokenFile` (token), or everybody (none). Either is then the local principal.',
      ['jwt', 'token', 'none'],
      'jwt',
    ),
    tokenFile: text(
      'With auth token: the file with that token, readable by its owner only.',
      join(paths.state, 'token'),
    ),
    insecure: bool(
      'Allows auth none, and tokens in clear, at an address that other machines can reach.',
      false,
    ),
    runners: list(
      'The runners that tell this proxy which executions have ended, so that their tokens are refused at once; while one cannot be reached, its tokens live up to 60 s longer.',
      address(''),
      [parseAddress(`unix:${join(paths.runtime, 'runner.sock')}`)],
    ),
    secretsDir: text(
      'The directory that `file:name` in a secretRef names a file of.',
      join(paths.state, 'secrets'),
    ),
    'secretStore.dir': text(
      'The encrypted store that `store:<instance>:<NAME>` in a secretRef names a secret of; `outrider secret` writes it.',
      join(paths.state, 'secret-store'),
    ),
    'secretStore.key': keyPlace(
      'Its key: file:PATH, readable by its owner only, or env:NAME; 32 bytes in base64, several apart by commas while they are changed.',
      `file:${join(paths.state, 'secret-store.key')}`,
    ),
    alertOnReturnedSecret: bool(
      'A credential that an upstream sends back is an alert: a record `secret` in the audit and an error in the log. It is covered and counted in any case.',
      true,
    ),
    auditDir: text(
      'Where proxy.jsonl, proxy.head.json and sidecar.jsonl are written; of several workers each writes its own proxy-1.jsonl, proxy-2.jsonl, ...',
      join(paths.state, 'audit'),
    ),
    'audit.maxBytes': bytes(
      'How large an audit file becomes before another is begun.',
      AUDIT_ROTATION.maxBytes,
      AUDIT_LEAST_BYTES,
    ),
    'audit.files': integer(
      'How many files of the audit of the proxy, or of each worker, are kept, the current one included; the oldest beyond that are removed.',
      2,
      100_000,
      AUDIT_ROTATION.files,
    ),
    'audit.sidecarFiles': integer(
      'How many files of the audit of all sidecars; more, since a sandbox that calls without end fills them for the others, too.',
      2,
      100_000,
      50,
    ),
    auditKeysDir: text(
      'Where the key is that signs audit checkpoints; made when missing.',
      join(paths.state, 'audit-keys'),
    ),
    ...limitsSpec(),
    'dns.servers': list('The DNS servers to ask; empty: those of the system.', dnsServer, []),
    'dns.timeout': duration(
      'How long the answer to one name may take, A and AAAA together.',
      5_000,
      1,
    ),
    'dns.hostsFile': optionalText(
      'A file in the format of /etc/hosts that is read before DNS is asked. Its answers are checked like any other.',
    ),
    'tls.caFile': optionalText('A PEM file of further certificate authorities for upstreams.'),
    upstreamProxy: proxyUrl(
      'An HTTP proxy, as http://host:port, that public addresses are reached through, by CONNECT to the address that was checked. Private and loopback ones are reached directly.',
    ),
    upstreamProxyCredential: optionalSecretRef(
      'The secretRef of `user:password` for that proxy: `env:NAME`, `file:name` or `store:<instance>:<NAME>`.',
    ),
    connectTimeout: duration(
      'How long connecting to an upstream, TLS included, may take.',
      10_000,
      1,
    ),
    upstreamTimeout: duration(
      'How long an upstream may take to begin its answer, and to go on with it.',
      60_000,
      1,
    ),
    tunnelIdle: duration(
      'After how long without a byte in either direction a tunnel is closed.',
      300_000,
      1,
    ),
    'ready.require': list<'issuers' | 'secrets' | 'upstreams'>(
      'What makes /readyz say 503 besides policies and audit: `issuers` whose keys cannot be fetched, also while those that are known go on; `secrets` that cannot be read; `upstreams`: datasources that cannot be reached, which are then tried every 15 s. Secrets are told in any case. `outrider up` requires no secrets where this is not set.',
      choice('', ['issuers', 'secrets', 'upstreams']),
      ['issuers', 'secrets'],
    ),
    user: meshUser(
      'As root: who the other parts become, who may therefore call; the proxy itself stays root, to read secrets that only root can',
    ),
    logLevel: choice('What is logged.', ['debug', 'info', 'warn', 'error'], 'info'),
  } satisfies Spec;
}

function proxyUrl(doc: string): Field<ReturnType<typeof parseUpstreamProxy> | undefined> {
  return {
    doc,
    kind: 'http URL',
    default: undefined,
    parse: (raw) => parseUpstreamProxy(typeof raw === 'string' ? raw : JSON.stringify(raw)),
  };
}

export type ProxyConfig = ConfigOf<ReturnType<typeof proxySpec>>;
