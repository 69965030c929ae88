import { join } from 'node:path';
import {
  address,
  type ConfigOf,
  choice,
  duration,
  list,
  optionalAddress,
  optionalText,
  type Spec,
  text,
} from '#core/config';
import { keySetPaths } from '#core/keys';
import { meshUser } from '#core/mesh-user';
import { policySpec } from '#policystore/config';

/** Every key of the section `proxy`. */
export function proxySpec(paths: { runtime: string; state: string }) {
  const keys = keySetPaths(join(paths.runtime, 'keys'));
  return {
    listen: address(
      'Where sidecars call: a unix socket (mode 0600) or a loopback address.',
      `unix:${join(paths.runtime, 'proxy.sock')}`,
    ),
    tcp: optionalAddress(
      'A second listener, for sidecars that cannot open the socket; loopback only, for example 127.0.0.1:18081.',
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
    secretsDir: text(
      'The directory that `file:name` in a secretRef names a file of.',
      join(paths.state, 'secrets'),
    ),
    auditDir: text(
      'Where proxy.jsonl, proxy.head.json and sidecar.jsonl are written.',
      join(paths.state, 'audit'),
    ),
    auditKeysDir: text(
      'Where the key is that signs audit checkpoints; made when missing.',
      join(paths.state, 'audit-keys'),
    ),
    'dns.servers': list<string>(
      'The DNS servers to ask, each an IP address with an optional port; empty: those of the system.',
      text(''),
      [],
    ),
    'dns.timeout': duration(
      'How long the answer to one name may take, A and AAAA together.',
      5_000,
    ),
    'dns.hostsFile': optionalText(
      'A file in the format of /etc/hosts that is read before DNS is asked. Its answers are checked like any other.',
    ),
    'tls.caFile': optionalText('A PEM file of further certificate authorities for upstreams.'),
    connectTimeout: duration('How long connecting to an upstream, TLS included, may take.', 10_000),
    upstreamTimeout: duration(
      'How long an upstream may take to begin its answer, and to go on with it.',
      60_000,
    ),
    tunnelIdle: duration(
      'After how long without a byte in either direction a tunnel is closed.',
      300_000,
    ),
    user: meshUser(
      'As root: who the other parts become, who may therefore call; the proxy itself stays root, to read secrets that only root can',
    ),
    logLevel: choice('What is logged.', ['debug', 'info', 'warn', 'error'], 'info'),
  } satisfies Spec;
}

export type ProxyConfig = ConfigOf<ReturnType<typeof proxySpec>>;
