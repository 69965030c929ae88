import { hostname, totalmem } from 'node:os';
import { join } from 'node:path';
import { AUDIT_LEAST_BYTES, AUDIT_ROTATION } from '#core/audit';
import {
  address,
  bytes,
  type ConfigOf,
  choice,
  duration,
  type Field,
  integer,
  list,
  optionalAddress,
  optionalText,
  text,
} from '#core/config';
import { keySetPaths } from '#core/keys';
import { meshUser } from '#core/mesh-user';
import { policySpec } from '#policystore/config';
import { BACKENDS, type BackendName } from './backends/backend.ts';

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
    ...policySpec('runner', state),
    name: {
      ...text('What this runner calls itself in answers', hostname()),
      show: () => '<host name>',
    },
    backends: list<BackendName>(
      'How sandboxes can be isolated; the first is the default, the others are taken when asked for by name or tier',
      choice('', BACKENDS),
      ['bubblewrap'],
    ),
    bubblewrap: text('The bubblewrap program', 'bwrap'),
    'docker.socket': text(
      "The container engine's socket, for docker and gvisor",
      '/var/run/docker.sock',
    ),
    'docker.images': list(
      'Images that docker and gvisor may use, by name or digest, never pulled; the first is the default',
      text(''),
      ['outrider-sandbox:latest'],
    ),
    'gvisor.runtime': text("The engine's name for gVisor's runtime", 'runsc'),
    maxMemory: bytes('The most that any sandbox gets, whatever its role says', 64 * 2 ** 30),
    maxCpus: integer('The same of processors', 1, 1_024, 64),
    maxPids: integer('The same of processes and threads', 1, 100_000, 4_096),
    maxDisk: bytes('The same of each of its file systems', 64 * 2 ** 30),
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
    poolSize: integer('Warm sandboxes kept for each profile of each role', 0, 64, 2),
    poolMax: integer(
      'Warm sandboxes of one kind at most, when many are asked for at a time',
      0,
      256,
      16,
    ),
    artefactBytes: integer(
      'Of the files that one exec leaves in /output, so many bytes are kept for ReadArtefact',
      0,
      2 ** 32,
      64 * 2 ** 20,
    ),
    artefactTotalBytes: integer(
      'Of all execs; the oldest exec goes first',
      0,
      2 ** 36,
      512 * 2 ** 20,
    ),
    pipIndex: registry('The simple index that pip installs dependencies from; without it, none'),
    npmRegistry: registry('The registry that npm installs dependencies from; without it, none'),
    capacity: integer('Programs at one time', 1, 10_000, 32),
    memory: {
      ...bytes(
        'The memory limits of all sandboxes in use, together; 0 for no bound',
        threeQuartersOfMemory(),
      ),
      show: () => '<three quarters of what this machine has>',
    },
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
    'exchange.tokenFile': optionalText(
      "For a proxy that does not trust this runner's key: a file with the user's access token, readable by its owner only, which the proxy exchanges for execution tokens; `proxy.issuers` says whose it takes",
    ),
    'proxyTls.cert': optionalText(
      'PEM files with which that proxy is asked on another host, the same as in `sidecar.proxyTls`: the certificate;',
    ),
    'proxyTls.key': optionalText('its key;'),
    'proxyTls.ca': optionalText('the authorities that sign the certificate of the proxy'),
    assertionIssuers: text('Whose principal assertions are accepted', keys.assertionIssuers),
    localAssertion: text(
      "The local principal's assertion, renewed by `outrider up`",
      join(runtime, 'local-assertion.jwt'),
    ),
    audit: text('The audit file', join(state, 'audit', 'runner.jsonl')),
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
    auditKeys: text('The directory of audit signing keys', join(state, 'audit-keys')),
    journal: text(
      'Where it is noted which programs run, so that those which a restart loses are reported',
      join(state, 'runner', 'execs.jsonl'),
    ),
    drainTimeout: duration('How long running programs may go on at the end', 30_000),
    user: meshUser(),
    logLevel: choice('How much is logged', ['debug', 'info', 'warn', 'error'], 'info'),
  };
}

/** Of the machine's memory, or of what this process may have of it, in bytes: the rest is for everything else. */
function threeQuartersOfMemory(): number {
  return Math.floor(0.75 * Math.min(totalmem(), process.constrainedMemory() || Infinity));
}

/** A user or a password in it would be seen by every program: credentials are the proxy's. */
function registry(doc: string): Field<string | undefined> {
  return {
    ...optionalText(doc),
    kind: 'URL',
    parse(raw) {
      if (raw === '') return undefined;
      const url = typeof raw === 'string' ? URL.parse(raw) : null;
      const plain = url && /^https?:$/.test(url.protocol) && url.username + url.password === '';
      if (!plain || url.search + url.hash !== '')
        throw new Error('must be http(s)://host/path, without user information or query');
      return url.href;
    },
  };
}

export type RunnerConfig = ConfigOf<ReturnType<typeof runnerSpec>>;
