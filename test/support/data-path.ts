import { createSocket } from 'node:dgram';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { credentials } from '@grpc/grpc-js';
import { loadConfig } from '#core/config';
import { createKeySet, readSigningKey } from '#core/keys';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { AssertionSigner, AssertionVerifier, ExecutionSigner, publicIssuer } from '#core/tokens';
import { canonicalJson, parseIp, projectRole, type RoleProjection } from '#policies';
import { loadDirectory } from '#policystore';
import { type AttachRequest, type AttachResponse, SidecarServiceClient } from '#proto';
import { createProxy, proxySpec } from '#proxy';
import { createSidecar, sidecarSpec } from '#sidecar';

type AuditRecord = Readonly<Record<string, unknown>>;

/** A real sidecar and a real proxy in this process, with the same policies, and what a runner does to open doors. */
export interface DataPath {
  readonly policies: string;
  /** A door for a sandbox of the role, its program already bound; resolves to its path. */
  readonly sandbox: (role: string) => Promise<string>;
  /** The same, with all that a runner knows of it. */
  readonly open: (role: string) => Promise<OpenDoor>;
  /** The role's policy without some of its allow rules: what a stricter version of it would be. */
  readonly projection: (role: string, without: readonly string[]) => RoleProjection;
  /** The audit records of the proxy about requests, so far. */
  readonly requests: () => AuditRecord[];
  /** Its alerts that a host has sent a credential back. */
  readonly returnedSecrets: () => AuditRecord[];
  /** Those of sidecars that the proxy has. */
  readonly delivered: () => AuditRecord[];
  readonly stop: () => Promise<void>;
}

/** One door with an exec bound to it. */
export interface OpenDoor {
  readonly door: string;
  /** What the program trusts; empty where nothing is intercepted. */
  readonly ca: string;
  /** Sends a request of the runner and waits for its answer. */
  readonly ask: (request: RunnerRequest) => Promise<AttachResponse>;
  readonly execId: string;
}

type RunnerRequest = NonNullable<AttachRequest['request']>;

/** How the proxy and the sidecar are configured besides. */
export interface DataPathOptions {
  readonly proxyArgv?: readonly string[];
  readonly sidecarArgv?: readonly string[];
  /** What `env:NAME` of a policy names. */
  readonly env?: Readonly<Record<string, string>>;
  /** What `file:NAME` of a policy names. */
  readonly secrets?: Readonly<Record<string, string>>;
}

/** `names` is where names lead to; every other does not exist. */
export async function startDataPath(
  policyText: string,
  names: Readonly<Record<string, readonly string[]>>,
  options: DataPathOptions = {},
): Promise<DataPath> {
  const directory = mkdtempSync(join(tmpdir(), 'o-path-'));
  const paths = { runtime: join(directory, 'run'), state: join(directory, 'state') };
  const policies = join(directory, 'policies');
  for (const path of [policies, paths.runtime, paths.state]) mkdirSync(path, { mode: 0o700 });
  writeFileSync(join(policies, 'policy.yaml'), policyText);
  mkdirSync(join(paths.state, 'secrets'), { mode: 0o700 });
  for (const [name, value] of Object.entries(options.secrets ?? {}))
    writeFileSync(join(paths.state, 'secrets', name), value, { mode: 0o600 });
  const keys = createKeySet(join(paths.runtime, 'keys'));
  const dns = await startNameServer(names);
  const argv = `--policies ${policies} --admin 127.0.0.1:0 --dns-servers ${dns.address} --limits-datasource none`;
  const metrics = (part: 'proxy' | 'sidecar') => ({
    log: silentLogger,
    metrics: new Metrics(part),
  });
  const proxyArgv = [...argv.split(' '), ...(options.proxyArgv ?? [])];
  const proxy = createProxy(loadConfig('proxy', proxySpec(paths), { argv: proxyArgv, env: {} }), {
    ...metrics('proxy'),
    env: options.env ?? {},
  });
  await proxy.start();
  const settings = loadConfig('sidecar', sidecarSpec(paths), {
    argv: ['--admin', '127.0.0.1:0', ...(options.sidecarArgv ?? [])],
    env: {},
  });
  const sidecar = createSidecar(settings, metrics('sidecar'));
  await sidecar.start();
  const client = new SidecarServiceClient(
    `unix:${join(paths.runtime, 'sidecar.sock')}`,
    credentials.createInsecure(),
  );
  const { set, digest } = await loadDirectory(policies);
  const [runner, local] = [keys.runner, keys.local].map(readSigningKey);
  if (!runner || !local) throw new Error('both keys were made');
  const executions = new ExecutionSigner(runner);
  let count = 0;

  const open = async (role: string): Promise<OpenDoor> => {
    count += 1;
    const [sandboxId, execId, door] = [
      `sbx-${count}`,
      `exec-${count}`,
      join(paths.runtime, `${count}.sock`),
    ];
    const assertion = await new AssertionSigner(local).sign(LOCAL_PRINCIPAL);
    const { proof } = await new AssertionVerifier([publicIssuer(local)]).verify(assertion);
    const { jwt } = await executions.sign({
      sandboxId,
      execId,
      role,
      policyDigest: digest,
      startedAt: Math.floor(Date.now() / 1_000),
      requestId: `req-${count}`,
      proof,
    });
    const { answers, ask } = await attach(client, [
      {
        $case: 'open',
        value: {
          attachmentId: `att-${count}`,
          sandboxId,
          spoolPath: '',
          listen: { $case: 'unix', value: { path: door, controlPath: '' } },
        },
      },
      {
        $case: 'bind',
        value: {
          execId,
          role,
          policy: Buffer.from(canonicalJson(projectRole(set, role, LOCAL_PRINCIPAL.tenant))),
          policyDigest: digest,
          token: { jwt, expiresAt: new Date(Date.now() + 60_000) },
          principal: LOCAL_PRINCIPAL,
          requestId: `req-${count}`,
          policyCommit: '',
          policySerial: 0n,
        },
      },
    ]);
    const bound = answers.at(-1)?.response;
    const ca = bound?.$case === 'bound' ? bound.value.caCertificate : '';
    return { door, ca, ask, execId };
  };

  return {
    policies,
    sandbox: async (role) => (await open(role)).door,
    open,
    projection(role, without) {
      const whole = projectRole(set, role, LOCAL_PRINCIPAL.tenant);
      const left = whole.policies.map((policy) => ({
        ...policy,
        allow: policy.allow.filter(({ id }) => !without.includes(id)),
      }));
      return { ...whole, policies: left };
    },
    requests: () => recordsOf('request', join(paths.state, 'audit', 'proxy.jsonl')),
    returnedSecrets: () => recordsOf('secret', join(paths.state, 'audit', 'proxy.jsonl')),
    delivered: () => recordsOf('request', join(paths.state, 'audit', 'sidecar.jsonl')),
    stop: async () => {
      client.close();
      await sidecar.stop();
      await proxy.stop();
      dns.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Sends requests of a runner one after the other, each when the one before has been answered. The stream stays open. */
export async function attach(
  client: SidecarServiceClient,
  requests: readonly RunnerRequest[],
): Promise<{ readonly answers: readonly AttachResponse[]; readonly ask: OpenDoor['ask'] }> {
  const call = client.attach();
  const waiting: ((answer: AttachResponse) => void)[] = [];
  let failed: Error | undefined;
  call.on('error', (error: Error) => {
    failed = error;
  });
  // What the sidecar says unasked answers nobody.
  call.on('data', (said: AttachResponse) => {
    if (!UNASKED.has(said.response?.$case ?? '')) waiting.shift()?.(said);
  });
  const ask: OpenDoor['ask'] = (request) =>
    new Promise((resolve, reject) => {
      if (failed) reject(failed);
      call.once('error', reject);
      waiting.push((answer) => {
        call.off('error', reject);
        resolve(answer);
      });
      call.write({ request });
    });
  const answers: AttachResponse[] = [];
  for (const request of requests) answers.push(await ask(request));
  return { answers, ask };
}

const UNASKED: ReadonlySet<string> = new Set(['denied', 'spool', 'auditRecord']);

function recordsOf(event: string, path: string): AuditRecord[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.includes(`"event":"${event}"`))
    .map((line): AuditRecord => Object(JSON.parse(line)));
}

/** Sends one request head to a door, and `more` behind the first bytes of the answer; resolves to everything that came back until the door closed. */
export function askDoor(door: string, head: string, more = ''): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path: door });
    let answer = '';
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      if (answer === '' && more !== '') socket.write(more);
      answer += bytes.toString('latin1');
    });
    socket.once('close', () => resolve(answer));
    socket.write(head);
  });
}

/**
 * The answer to a CONNECT, and who signed the certificate of the TLS behind it. Behind a 200 comes a TLS hello to the host: before it,
 * nobody is asked to dial.
 */
export function openTunnel(
  door: string,
  authority: string,
): Promise<{ readonly answer: string; readonly issuer: string | undefined }> {
  return new Promise((resolve) => {
    let issuer: string | undefined;
    const socket = connect({ path: door });
    let answer = '';
    socket.on('error', () => {});
    socket.once('close', () => resolve({ answer, issuer }));
    socket.on('data', (bytes) => {
      const first = answer === '';
      answer += bytes.toString('latin1');
      if (!first || !answer.startsWith('HTTP/1.1 200 ')) return;
      const servername = authority.slice(0, authority.lastIndexOf(':'));
      const secure = connectTls({ socket, servername, rejectUnauthorized: false });
      secure.on('error', () => socket.destroy());
      secure.once('secureConnect', () => {
        issuer = String(secure.getPeerCertificate().issuer.CN);
        socket.destroy();
      });
    });
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  });
}

/** Waits for `value` to give something; fails when it does not within `withinMs`. */
export async function eventually<T>(value: () => T | undefined, withinMs = 60_000): Promise<T> {
  const deadline = Date.now() + withinMs;
  for (let found = value(); ; found = value()) {
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error('it did not happen in time');
    await sleep(5);
  }
}

/** A name server (RFC 1035) that knows the addresses of these names alone. */
async function startNameServer(
  names: Readonly<Record<string, readonly string[]>>,
): Promise<{ address: string; close: () => void }> {
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const { name, end } = questionOf(query);
    const isA = query.readUInt16BE(end - 4) === 1;
    const known = Object.hasOwn(names, name) ? (names[name] ?? []) : undefined;
    const answers = (isA ? (known ?? []) : []).map((text) => {
      const data = (parseIp(text) ?? new Uint8Array(16)).subarray(12);
      return Buffer.concat([Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]), data]);
    });
    const header = Buffer.alloc(12);
    query.copy(header, 0, 0, 2);
    header.writeUInt16BE(known ? 0x8180 : 0x8183, 2);
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(answers.length, 6);
    socket.send(
      Buffer.concat([header, query.subarray(12, end), ...answers]),
      from.port,
      from.address,
    );
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  return { address: `127.0.0.1:${socket.address().port}`, close: () => socket.close() };
}

function questionOf(query: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), end: at + 5 };
}
