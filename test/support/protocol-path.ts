import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { type DataPath, type OpenDoor, startDataPath } from './data-path.ts';

/** The address of every host of the tests of protocols: a documentation range, which counts as public. */
export const HOST = '203.0.113.10';
export const NAMES = {
  'api.example.com': [HOST],
  'cred.example.com': [HOST],
  'plain.example.com': [HOST],
  'old.example.com': [HOST],
};
export const SECRET = 'canary-protocols-c29tZQ';

/** A certificate for the hosts and its key, PEM. */
export interface HostCertificate {
  readonly cert: string;
  readonly key: string;
}

/** A real sidecar and a real proxy, hosts that they reach, and a door. */
export interface ProtocolPath {
  readonly path: DataPath;
  readonly opened: OpenDoor;
  readonly certificate: HostCertificate;
  /** A port of loopback that leads to the door, as the relay in a sandbox does. */
  readonly doorPort: number;
  readonly stop: () => Promise<void>;
}

/** `rules`: lines of YAML under `allow`. */
export async function startProtocolPath(
  rules: string,
  proxyArgv: readonly string[] = [],
): Promise<ProtocolPath> {
  const directory = mkdtempSync(join(tmpdir(), 'o-proto-'));
  const [certFile, keyFile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const names = Object.keys(NAMES).map((name) => `DNS:${name}`);
  execFileSync(
    'openssl',
    [
      ...'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2'.split(' '),
      '-keyout',
      keyFile,
      '-out',
      certFile,
      '-subj',
      '/CN=api.example.com',
      '-addext',
      `subjectAltName=${names.join(',')}`,
    ],
    { stdio: 'ignore' },
  );
  const path = await startDataPath(policyText(rules), NAMES, {
    proxyArgv: ['--tls-ca-file', certFile, ...proxyArgv],
    env: { API_TOKEN: SECRET },
  });
  const opened = await path.open('tester');
  const relay = await relayTo(opened.door);
  return {
    path,
    opened,
    certificate: { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') },
    doorPort: relay.port,
    stop: async () => {
      relay.close();
      await path.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** The program's TLS to a host, ended by the door; `protocols` are offered by ALPN. */
export async function secureThrough(
  { opened }: ProtocolPath,
  host: string,
  protocols: readonly string[],
  port = 443,
): Promise<TLSSocket> {
  const socket = connect({ path: opened.door });
  socket.write(`CONNECT ${host}:${port} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`);
  await once(socket, 'data');
  const secure = connectTls({
    socket,
    servername: host,
    ca: [opened.ca],
    ALPNProtocols: [...protocols],
  });
  await once(secure, 'secureConnect');
  secure.on('error', () => {});
  return secure;
}

/** The program's HTTP/2 connection to a host. */
export async function http2Through(
  built: ProtocolPath,
  host: string,
  port = 443,
): Promise<ClientHttp2Session> {
  const secure = await secureThrough(built, host, ['h2'], port);
  const session = connectHttp2(`https://${host}`, { createConnection: () => secure });
  session.on('error', () => {});
  return session;
}

export function policyText(rules: string): string {
  return `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester}
spec: {members: [{issuer: "outrider:local"}], sandbox: {timeout: 5m}}
---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: protocols}
spec:
  subjects: [{role: tester}]
  mode: enforce
  allow:
${rules}
${rules.includes('credential: token') ? BINDING : ''}`;
}

const BINDING = `---
apiVersion: outrider/v1
kind: CredentialBinding
metadata: {name: token}
spec: {secretRef: "env:API_TOKEN", hosts: [cred.example.com], paths: any, inject: {header: authorization, format: "Bearer {secret}"}}
`;

async function relayTo(door: string): Promise<{ port: number; close: () => void }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    const inner = connect({ path: door, allowHalfOpen: true });
    for (const one of [socket, inner]) {
      sockets.add(one);
      one
        .on('error', () => {})
        .once('close', () => {
          sockets.delete(one);
          (one === socket ? inner : socket).destroy();
        });
    }
    socket.pipe(inner).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
