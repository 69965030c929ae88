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
import { canonicalJson, parseIp, projectRole } from '#policies';
import { loadDirectory } from '#policystore';
import { type AttachRequest, SidecarServiceClient } from '#proto';
import { createProxy, proxySpec } from '#proxy';
import { createSidecar, sidecarSpec } from '#sidecar';

type AuditRecord = Readonly<Record<string, unknown>>;

/** A real sidecar and a real proxy in this process, with the same policies, and what a runner does to open doors. */
export interface DataPath {
  readonly policies: string;
  /** A door for a sandbox of the role, its program already bound; resolves to its path. */
  readonly sandbox: (role: string) => Promise<string>;
  /** The audit records of the proxy about requests, so far. */
  readonly requests: () => AuditRecord[];
  readonly stop: () => Promise<void>;
}

/** `names` is where names lead to; every other does not exist. */
export async function startDataPath(
  policyText: string,
  names: Readonly<Record<string, readonly string[]>>,
): Promise<DataPath> {
  const directory = mkdtempSync(join(tmpdir(), 'o-path-'));
  const paths = { runtime: join(directory, 'run'), state: join(directory, 'state') };
  const policies = join(directory, 'policies');
  for (const path of [policies, paths.runtime, paths.state]) mkdirSync(path, { mode: 0o700 });
  writeFileSync(join(policies, 'policy.yaml'), policyText);
  const keys = createKeySet(join(paths.runtime, 'keys'));
  const dns = await startNameServer(names);
  const argv = ['--policies', policies, '--admin', '127.0.0.1:0', '--dns-servers', dns.address];
  const metrics = (part: 'proxy' | 'sidecar') => ({
    log: silentLogger,
    metrics: new Metrics(part),
  });
  const proxy = createProxy(loadConfig('proxy', proxySpec(paths), { argv, env: {} }), {
    ...metrics('proxy'),
    env: {},
  });
  await proxy.start();
  const settings = loadConfig('sidecar', sidecarSpec(paths), {
    argv: ['--admin', '127.0.0.1:0'],
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

  const sandbox = async (role: string): Promise<string> => {
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
    await attach(client, [
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
    return door;
  };

  return {
    policies,
    sandbox,
    requests: () => requestRecords(join(paths.state, 'audit', 'proxy.jsonl')),
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
function attach(
  client: SidecarServiceClient,
  requests: readonly NonNullable<AttachRequest['request']>[],
): Promise<void> {
  const [...left] = requests;
  return new Promise((resolve, reject) => {
    const call = client.attach();
    const next = (): void => {
      const request = left.shift();
      if (request) call.write({ request });
      else resolve();
    };
    call.on('error', reject);
    call.on('data', next);
    next();
  });
}

function requestRecords(path: string): AuditRecord[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.includes('"event":"request"'))
    .map((line): AuditRecord => Object(JSON.parse(line)));
}

/** Sends one request head to a door, and resolves to everything that came back until the door closed. */
export function askDoor(door: string, head: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path: door });
    let answer = '';
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
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
export async function eventually<T>(value: () => T | undefined, withinMs = 3_000): Promise<T> {
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
