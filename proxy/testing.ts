import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { loadConfig } from '#core/config';
import { isRecord } from '#core/is-record';
import { createKeySet, readSigningKey } from '#core/keys';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { LOCAL_PRINCIPAL, type Principal } from '#core/principal';
import {
  AssertionSigner,
  AssertionVerifier,
  type ExecutionClaims,
  ExecutionSigner,
  publicIssuer,
  type SigningKey,
} from '#core/tokens';
import { parseIp } from '#policies';
import { loadDirectory } from '#policystore';
import { type ProxyConfig, proxySpec } from './config.ts';
import type { Seat } from './seat.ts';
import { createProxy, type Proxy, type ProxyAddresses } from './server.ts';

// What the tests of this folder share: real sockets, real keys, real policy files.

/** Self-signed for `localhost` and `api.example`, valid until 2126. It protects nothing. */
export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBojCCAUigAwIBAgIUPUmyhjFyt0rmy7jc5NuPtMW9VJcwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTAwMjgxNVoYDzIxMjYxMDI4
MDAyODE1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARJeAhLScuQsZ5NQyFPlLuGSWBOtZ7ZAwE2N9pp9qSjqndlqkE0imbE
2R5xvU07whl1KWtFADtDGS3wCYED6uL+o3YwdDAdBgNVHQ4EFgQUUhecQWJJRjZM
DosPD9HFV+J1WcQwHwYDVR0jBBgwFoAUUhecQWJJRjZMDosPD9HFV+J1WcQwIQYD
VR0RBBowGIIJbG9jYWxob3N0ggthcGkuZXhhbXBsZTAPBgNVHRMBAf8EBTADAQH/
MAoGCCqGSM49BAMCA0gAMEUCIFM5BLIxwl61cbU2iABZ8ob/jCowZL998WrZSMpv
QSYIAiEAg6WZZbtTxxuNFvqUKYS+2NSvQjuu9ZQtqd+SPnPMyVI=
-----END CERTIFICATE-----`;
export const CERTIFICATE_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgb2mitJ9/5srFy0j+
VJP3Qoic8yqiEoSFwKv/pJBTpFChRANCAARJeAhLScuQsZ5NQyFPlLuGSWBOtZ7Z
AwE2N9pp9qSjqndlqkE0imbE2R5xvU07whl1KWtFADtDGS3wCYED6uL+
-----END PRIVATE KEY-----`;

/** One request as an origin got it. */
export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly rawHeaders: readonly string[];
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface Origin {
  readonly port: number;
  readonly seen: Seen[];
  /** TCP connections accepted so far. */
  readonly connections: () => number;
}

type Answer = (seen: Seen, response: ServerResponse, request: IncomingMessage) => void;
const ok: Answer = (_seen, response) => void response.end('hello');

/** An HTTP server that records what it gets. */
export async function startOrigin(
  t: TestContext,
  answer: Answer = ok,
  { tls = false, host = '127.0.0.1' } = {},
): Promise<Origin> {
  const seen: Seen[] = [];
  let connections = 0;
  const listener = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const pieces: Buffer[] = [];
    // An aborted upload ends the loop by throwing; what came is then recorded.
    try {
      for await (const piece of incoming) pieces.push(Buffer.from(piece));
    } catch {}
    const { method = '', url = '', rawHeaders, headers } = incoming;
    const one = { method, url, rawHeaders, headers, body: Buffer.concat(pieces).toString() };
    seen.push(one);
    answer(one, response, incoming);
  };
  const serve = (incoming: IncomingMessage, response: ServerResponse) =>
    void listener(incoming, response);
  const server: Server = tls
    ? createTlsServer({ cert: CERTIFICATE, key: CERTIFICATE_KEY }, serve)
    : createServer(serve);
  server.on('connection', () => {
    connections += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: portOf(server.address()), seen, connections: () => connections };
}

/** An organisation's proxy that leads every tunnel to one port of this machine, or refuses it. */
export async function startCorporateProxy(t: TestContext, to: number, status = 200) {
  const seen: IncomingMessage[] = [];
  const sockets = new Set<Socket>();
  const server = createServer();
  server.on('connect', (asked, client) => {
    seen.push(asked);
    client.on('error', () => {});
    if (status !== 200) {
      client.end(`HTTP/1.1 ${status} No\r\n\r\n`);
      return;
    }
    const upstream = connect(to, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    sockets.add(upstream);
    upstream.on('error', () => client.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    server.close();
  });
  const port = portOf(server.address());
  return { seen, proxy: { host: '127.0.0.1', port, authorization: () => 'Basic dTpw' } };
}

/** A DNS server over UDP that answers A and AAAA from a table and records the names it was asked for. */
export async function startDns(
  t: TestContext,
  table: Readonly<Record<string, readonly string[]>>,
): Promise<{ address: string; asked: string[] }> {
  const asked: string[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const name = questionName(query);
    const type = query.readUInt16BE(12 + name.length + 2);
    asked.push(`${type === 28 ? 'AAAA' : 'A'} ${name}`);
    const known = table[name];
    if (known?.length === 0) return; // never answered
    socket.send(dnsAnswer(query, name, type, known), from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  t.after(() => socket.close());
  return { address: `127.0.0.1:${socket.address().port}`, asked };
}

function questionName(query: Buffer): string {
  const labels: string[] = [];
  for (let at = 12; query[at] !== 0 && at < query.length; at += 1 + (query[at] ?? 0))
    labels.push(query.toString('latin1', at + 1, at + 1 + (query[at] ?? 0)));
  return labels.join('.');
}

function dnsAnswer(
  query: Buffer,
  name: string,
  type: number,
  known: readonly string[] | undefined,
): Buffer {
  const question = query.subarray(12, 12 + name.length + 2 + 4);
  const wanted = (known ?? []).filter((text) => text.includes(':') === (type === 28));
  const records = wanted.map((text) => {
    const bytes = parseIp(text) ?? new Uint8Array(16);
    const data = type === 28 ? bytes : bytes.subarray(12);
    const head = Buffer.from([0xc0, 0x0c, 0, type, 0, 1, 0, 0, 0, 30, 0, data.length]);
    return Buffer.concat([head, data]);
  });
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(known ? 0x8180 : 0x8183, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records.length, 6);
  return Buffer.concat([header, question, ...records]);
}

/** A policy document; its `apiVersion` is filled in. */
export interface TestDocument {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly [key: string]: unknown };
  readonly spec: unknown;
}

export const ROLE: TestDocument = {
  kind: 'Role',
  metadata: { name: 'analyst' },
  spec: { members: [{ issuer: 'outrider:local' }], sandbox: { timeout: '2m' } },
};
/** Lets datasources be on loopback. */
export const BOUNDARY: TestDocument = {
  kind: 'Boundary',
  metadata: { name: 'organisation' },
  spec: { mayLoopbackDatasources: true, mayTunnel: true, mayPrivate: ['192.168.0.0/16'] },
};

export function egressPolicy(allow: readonly unknown[], role = 'analyst'): TestDocument {
  return {
    kind: 'EgressPolicy',
    metadata: { name: `${role}-egress` },
    spec: { subjects: [{ role }], mode: 'enforce', allow },
  };
}

export function datasource(
  type: string,
  name: string,
  endpoint: string,
  spec: Readonly<Record<string, unknown>> = { auth: { type: 'none' } },
): TestDocument {
  return {
    kind: 'Datasource',
    metadata: { name, description: `the ${name} datasource` },
    spec: { type, endpoint, allowLoopback: true, ...spec },
  };
}

/** What a caller of the proxy gets back. */
export interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: string;
  /** The `error` of a refusal; of one in the form of S3 its reason and rule. */
  readonly error: { readonly code?: string; readonly reason?: string; readonly rule?: string };
}

export interface Mesh {
  readonly directory: string;
  readonly addresses: ProxyAddresses;
  /** Another process of it, as far as that is to be had within one. */
  readonly restart: () => Promise<void>;
  readonly proxy: Proxy;
  readonly digest: string;
  readonly runnerKey: SigningKey;
  readonly gatewayKey: SigningKey;
  readonly localKey: SigningKey;
  /** An execution token, all of it right unless told otherwise. */
  readonly token: (wrong?: TokenChanges) => Promise<string>;
  /** One request with a good token, unless `token` is given; '' sends none. */
  readonly ask: (target: string, options?: AskOptions) => Promise<Got>;
  /** The audit records of the proxy so far. */
  readonly records: () => Record<string, unknown>[];
  readonly writePolicies: (documents: readonly TestDocument[]) => void;
}

export interface TokenChanges extends Partial<ExecutionClaims> {
  readonly principal?: Principal;
  /** Signs the assertion, and the proof inside; default the local key. */
  readonly assertionKey?: SigningKey;
  /** Signs the token itself; default the runner's. */
  readonly runnerKey?: SigningKey;
  readonly grantedRole?: string;
}

export interface AskOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string | Buffer;
  readonly token?: string;
}

/** A started proxy with its own keys, policy files, secrets and audit, on a unix socket. */
export async function startMesh(
  t: TestContext,
  options: {
    documents: readonly TestDocument[];
    config?: Readonly<Record<string, unknown>>;
    secrets?: Readonly<Record<string, string>>;
    env?: Readonly<Record<string, string>>;
    /** What the proxy reads instead of a directory of `documents`. */
    policies?: string;
    /** It is a worker of this primary. */
    seat?: (config: ProxyConfig) => Seat;
  },
): Promise<Mesh> {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-proxy-'));
  const paths = { runtime: join(directory, 'run'), state: join(directory, 'state') };
  const policies = join(directory, 'policies');
  mkdirSync(policies);
  mkdirSync(join(paths.state, 'secrets'), { recursive: true });
  for (const [name, value] of Object.entries(options.secrets ?? {}))
    writeFileSync(join(paths.state, 'secrets', name), value);
  const keys = createKeySet(join(paths.runtime, 'keys'));
  const writePolicies = (documents: readonly TestDocument[]) => {
    const yaml = documents.map((one) => JSON.stringify({ apiVersion: 'outrider/v1', ...one }));
    writeFileSync(join(policies, 'policy.yaml'), `---\n${yaml.join('\n---\n')}\n`);
  };
  writePolicies(options.documents);
  const config = loadConfig('proxy', proxySpec(paths), {
    argv: ['--policies', options.policies ?? policies, '--admin', '127.0.0.1:0'],
    env: {},
    // Tests of other things ask more often than the limit that is there by default.
    file: {
      name: 'test',
      text: JSON.stringify({ proxy: { 'limits.datasource': 'none', ...options.config } }),
    },
  });
  const create = () =>
    createProxy(config, {
      log: silentLogger,
      metrics: new Metrics('proxy'),
      env: options.env ?? {},
      seat: options.seat?.(config),
    });
  let proxy = create();
  t.after(async () => {
    await proxy.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  const addresses = await proxy.start();
  const { digest } = await loadDirectory(policies);
  const [runnerKey, gatewayKey, localKey] = [keys.runner, keys.gateway, keys.local].map(
    readSigningKey,
  );
  if (!runnerKey || !gatewayKey || !localKey) throw new Error('three keys were made');

  const token: Mesh['token'] = async (wrong = {}) => {
    const { principal = LOCAL_PRINCIPAL, assertionKey = localKey, grantedRole, ...claims } = wrong;
    const assertion = await new AssertionSigner(assertionKey).sign(
      principal,
      grantedRole === undefined ? {} : { role: grantedRole },
    );
    const { proof } = await new AssertionVerifier([publicIssuer(assertionKey)]).verify(assertion);
    const { jwt } = await new ExecutionSigner(wrong.runnerKey ?? runnerKey).sign({
      sandboxId: 'sbx-test',
      execId: 'exec-test',
      role: 'analyst',
      policyDigest: digest,
      startedAt: Math.floor(Date.now() / 1_000),
      requestId: 'req-test',
      proof,
      ...claims,
    });
    return jwt;
  };
  let good = await token();
  // It lives a minute, and the tests of a busy machine longer.
  const renewal = setInterval(() => void token().then((fresh) => (good = fresh)), 10_000).unref();
  t.after(() => clearInterval(renewal));
  return {
    directory,
    addresses,
    get proxy() {
      return proxy;
    },
    async restart() {
      await proxy.stop();
      proxy = create();
      await proxy.start();
    },
    digest,
    runnerKey,
    gatewayKey,
    localKey,
    token,
    ask: (target, asked = {}) => ask(addresses, target, { token: good, ...asked }),
    records: () => readAudit(join(paths.state, 'audit', 'proxy.jsonl')),
    writePolicies,
  };
}

function ask(addresses: ProxyAddresses, target: string, options: AskOptions): Promise<Got> {
  const { method = 'GET', headers = {}, body, token = '' } = options;
  const socketPath = addresses.listen.kind === 'unix' ? addresses.listen.path : '';
  const host = /^https?:\/\/([^/?#]*)/.exec(target)?.[1] ?? '127.0.0.1';
  return new Promise((resolve, reject) => {
    const sent = request({
      socketPath,
      path: target,
      method,
      agent: false,
      headers: {
        host,
        ...(token === '' ? {} : { 'proxy-authorization': `Bearer ${token}` }),
        ...headers,
      },
    });
    sent.on('error', reject);
    sent.on('response', (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(pieces).toString();
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          rawHeaders: response.rawHeaders,
          body: text,
          error: errorOf(text),
        });
      });
    });
    sent.end(body);
  });
}

function errorOf(text: string): Got['error'] {
  try {
    const value: unknown = JSON.parse(text);
    const error = isRecord(value) && isRecord(value['error']) ? value['error'] : {};
    return Object.fromEntries(
      Object.entries(error).filter((entry) => typeof entry[1] === 'string'),
    );
  } catch {
    const element = (name: string) => new RegExp(`<${name}>([^<]*)<`).exec(text)?.[1];
    const [reason, rule] = [element('Reason'), element('Rule')];
    return { ...(reason && { reason }), ...(rule && { rule }) };
  }
}

/** The records of an audit file, parsed. */
export function readAudit(path: string): Record<string, unknown>[] {
  return readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line): unknown => JSON.parse(line))
    .filter(isRecord);
}

function portOf(address: AddressInfo | string | null): number {
  if (address === null || typeof address === 'string') throw new Error('not a TCP listener');
  return address.port;
}
