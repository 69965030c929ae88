import { hostname } from 'node:os';
import { join } from 'node:path';
import {
  address,
  type ConfigOf,
  choice,
  duration,
  integer,
  optionalAddress,
  text,
} from '#core/config';
import { keySetPaths } from '#core/keys';

/** The runner's configuration; docs/config.md is made from it. */
export function runnerSpec({ runtime, state }: { runtime: string; state: string }) {
  const keys = keySetPaths(join(runtime, 'keys'));
  return {
    listen: address(
      "Where gRPC is served to this machine; a call without a token is the local principal's",
      `unix:${runtime}/runner.sock`,
    ),
    tcp: optionalAddress(
      'Where gRPC is served to callers that send a principal assertion; loopback only in this version, e.g. 127.0.0.1:8791',
    ),
    admin: address('Where /livez, /readyz and /metrics are served', '127.0.0.1:8792'),
    policies: text('The directory of policy documents'),
    name: {
      ...text('What this runner calls itself in answers', hostname()),
      show: () => '<host name>',
    },
    backend: choice('How sandboxes are isolated', ['bubblewrap'], 'bubblewrap'),
    bubblewrap: text('The bubblewrap program', 'bwrap'),
    sandboxDirectory: text(
      'Where sandboxes have their sockets; enterable by their users',
      `${runtime}-sandboxes`,
    ),
    firstUid: integer(
      'As root: the first of the host uids that sandboxes run as, one each',
      1000,
      2 ** 31,
      1_900_000_000, // above every range that distributions give to users and containers
    ),
    uidCount: integer('As root: how many', 1, 65_536, 4_096),
    poolSize: integer('Warm sandboxes kept for each shape that roles ask for', 0, 64, 2),
    capacity: integer('Programs at one time', 1, 10_000, 32),
    sharing: choice(
      'A sidecar process for each sandbox, or one for all on a machine with a single tenant',
      ['none', 'host'],
      'none',
    ),
    spareSidecars: integer('With sharing none: sidecar processes started ahead', 0, 64, 1),
    sidecar: address(
      'With sharing host: where the sidecar listens',
      `unix:${runtime}/sidecar.sock`,
    ),
    proxy: address('Where the sidecars find the credential proxy', `unix:${runtime}/proxy.sock`),
    signingKey: text('The key that signs execution tokens', keys.runner),
    assertionIssuers: text('Whose principal assertions are accepted', keys.assertionIssuers),
    localAssertion: text(
      "The local principal's assertion, renewed by `outrider up`",
      join(runtime, 'local-assertion.jwt'),
    ),
    audit: text('The audit file', join(state, 'audit', 'runner.jsonl')),
    auditKeys: text('The directory of audit signing keys', join(state, 'audit-keys')),
    drainTimeout: duration('How long running programs may go on at the end', 30_000),
    logLevel: choice('How much is logged', ['debug', 'info', 'warn', 'error'], 'info'),
  };
}

export type RunnerConfig = ConfigOf<ReturnType<typeof runnerSpec>>;
