import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import type { TestContext } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { type ClientDuplexStream, credentials, type ServiceError } from '@grpc/grpc-js';
import { hashLine, readLine } from '#core/audit';
import { loadConfig } from '#core/config';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { canonicalJson, compilePolicySet, type EgressPolicy, projectRole } from '#policies';
import { type AttachRequest, type AttachResponse, SidecarServiceClient } from '#proto';
import { datasource, documents, egress, role } from '../policies/fixture.ts';
import { type SidecarConfig, sidecarSpec } from './config.ts';
import { createSidecar } from './server.ts';

/** For tests alone: a real sidecar, a server that plays the proxy and records, and a runner's end of the stream. */

type Allow = EgressPolicy['spec']['allow'];

export const TOKEN = 'eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiJqdGktMSJ9.c2lnbmF0dXJl';
export const DIGEST = 'd'.repeat(64);

export const RULES: Allow = [
  {
    id: 'api',
    hosts: ['api.allowed.test'],
    scheme: 'http',
    methods: ['GET', 'POST', 'HEAD'],
    paths: ['/v1/**'],
  },
  { id: 'tls', hosts: ['tls.allowed.test'], protocols: ['tunnel'] },
  { id: 'seen', hosts: ['seen.allowed.test'], methods: ['GET'], paths: ['/v1/**'] },
  {
    id: 'cred',
    hosts: ['cred.allowed.test'],
    scheme: 'http',
    methods: ['GET'],
    paths: 'any',
  },
  { id: 'metrics', datasource: 'prometheus/main', methods: ['GET', 'POST'], paths: 'any' },
];

/** The role's projection under these rules, as the runner would send it. */
export function policyOf(allow: Allow = RULES): Buffer {
  const spec = { subjects: [{ role: 'tester' }] };
  const parts = documents({
    roles: [role('tester')],
    egressPolicies: [egress('door', allow, [{ id: 'no-evil', hosts: ['evil.test'] }], spec)],
    datasources: [datasource('prometheus', 'main', { endpoint: 'https://metrics.allowed.test' })],
  });
  const set = compilePolicySet(parts, DIGEST);
  const projection = projectRole(set, 'tester', 'acme');
  // A document may give a credential to https alone, which this version does not intercept; the decision is the same.
  const policies = projection.policies.map((policy) => ({
    ...policy,
    allow: policy.allow.map((rule) => (rule.id === 'cred' ? { ...rule, credential: 'key' } : rule)),
  }));
  return Buffer.from(canonicalJson({ ...projection, policies }));
}

export interface Recorded {
  readonly method: string;
  readonly url: string;
  readonly headers: readonly string[];
  body: string;
  complete: boolean;
}

/** Plays the proxy: keeps what it is sent, stores audit lines, echoes tunnels. */
export class RecordingProxy {
  readonly path: string;
  readonly requests: Recorded[] = [];
  readonly tunnels: Recorded[] = [];
  readonly tunnelSockets: Socket[] = [];
  readonly auditLines: string[] = [];
  connections = 0;
  /** Requests whose body has ended, or broken off. */
  ended = 0;
  storesAudit = true;
  /** Answers a delivery in place of storing it. */
  auditAnswer: ((response: ServerResponse) => void) | undefined;
  deliveries = 0;
  tunnelAnswer = 'HTTP/1.1 200 OK\r\n\r\n';
  answer: (request: IncomingMessage, response: ServerResponse) => void = (_, response) =>
    void response.writeHead(200, { 'content-type': 'text/plain', 'x-origin': 'yes' }).end('hello');
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(path: string) {
    this.path = path;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on('connection', (socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      socket.on('error', () => {}).once('close', () => this.#sockets.delete(socket));
    });
    this.#server.on('connect', (request: IncomingMessage, socket: Socket) => {
      this.tunnels.push(recorded(request));
      this.tunnelSockets.push(socket);
      socket.write(this.tunnelAnswer);
      socket.pipe(socket);
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => void this.#server.listen({ path: this.path }, resolve));
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const entry = recorded(request);
    if (request.url !== '/.outrider/audit') this.requests.push(entry);
    if (request.headers['expect'] === undefined && request.url !== '/.outrider/audit')
      this.answer(request, response);
    request.on('data', (chunk: Buffer) => {
      entry.body += chunk.toString('latin1');
    });
    await new Promise((resolve) => request.once('close', resolve));
    entry.complete = request.complete;
    if (request.url === '/.outrider/audit') this.#store(entry.body, response);
    else this.ended += 1;
  }

  #store(body: string, response: ServerResponse): void {
    this.deliveries += 1;
    if (this.auditAnswer) {
      this.auditAnswer(response);
      return;
    }
    if (!this.storesAudit) {
      response.writeHead(503).end('{}');
      return;
    }
    for (const line of body.split('\n'))
      if (line !== '' && !this.auditLines.includes(line)) this.auditLines.push(line);
    const last = this.auditLines.at(-1) ?? '';
    const { writer, seq } = readLine(last) ?? { writer: '', seq: -1 };
    response.end(JSON.stringify({ acknowledged: { writer, seq, hash: hashLine(last) } }));
  }
}

export interface Rig {
  readonly directory: string;
  readonly proxy: RecordingProxy;
  readonly client: SidecarServiceClient;
  readonly sidecar: ReturnType<typeof createSidecar>;
  readonly metrics: Metrics;
  /** Opens an attachment; its door is `<directory>/<id>.sock`. */
  readonly attach: (id?: string) => Promise<Runner>;
}

/** A sidecar on a unix socket in a directory of its own, all gone with the test. */
export async function rig(t: TestContext, overrides: Partial<SidecarConfig> = {}): Promise<Rig> {
  const directory = mkdtempSync(join(tmpdir(), 'door-'));
  const proxy = new RecordingProxy(join(directory, 'proxy.sock'));
  await proxy.listen();
  const config = { ...defaults(directory), exitWithAttachment: true, ...overrides };
  const metrics = new Metrics('sidecar');
  const sidecar = createSidecar(config, { log: silentLogger, metrics });
  await sidecar.start();
  const client = new SidecarServiceClient(
    `unix:${join(directory, 'sidecar.sock')}`,
    credentials.createInsecure(),
  );
  t.after(async () => {
    client.close();
    await sidecar.stop();
    await proxy.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    directory,
    proxy,
    client,
    sidecar,
    metrics,
    attach: async (id = 'att-1') => {
      const runner = new Runner(client, join(directory, `${id}.sock`));
      await runner.ask({
        $case: 'open',
        value: {
          attachmentId: id,
          sandboxId: `sbx-${id}`,
          spoolPath: '',
          listen: { $case: 'unix', value: { path: runner.door, controlPath: '' } },
        },
      });
      return runner;
    },
  };
}

/** The defaults of the spec, which a test changes key by key. */
export function defaults(directory: string): SidecarConfig {
  const paths = { runtime: directory, state: directory };
  return loadConfig('sidecar', sidecarSpec(paths), { argv: [], env: {} });
}

/** The runner's end of one attachment. */
export class Runner {
  readonly door: string;
  readonly call: ClientDuplexStream<AttachRequest, AttachResponse>;
  /** Everything that came unasked. */
  readonly events: NonNullable<AttachResponse['response']>[] = [];
  readonly ended: Promise<ServiceError | undefined>;
  #answer: ((response: NonNullable<AttachResponse['response']>) => void) | undefined;
  #fail: ((error: Error) => void) | undefined;

  constructor(client: SidecarServiceClient, door: string) {
    this.door = door;
    this.call = client.attach();
    this.ended = new Promise((resolve) => {
      this.call.on('end', () => resolve(undefined));
      this.call.on('error', (error: ServiceError) => {
        resolve(error);
        this.#fail?.(error);
      });
    });
    this.call.on('data', ({ response }: AttachResponse) => {
      if (!response) return;
      if (['denied', 'spool', 'auditRecord'].includes(response.$case)) this.events.push(response);
      else this.#answer?.(response);
    });
  }

  /** Sends a request and waits for its answer. */
  ask(
    request: NonNullable<AttachRequest['request']>,
  ): Promise<NonNullable<AttachResponse['response']>> {
    return new Promise((resolve, reject) => {
      this.#answer = resolve;
      this.#fail = reject;
      this.call.write({ request });
    });
  }

  /** Resolves to the certificate of the sandbox's CA. */
  async bind(
    options: { policy?: Buffer; execId?: string; expiresAt?: Date } = {},
  ): Promise<string> {
    const answer = await this.ask({
      $case: 'bind',
      value: {
        execId: options.execId ?? 'exec-1',
        role: 'tester',
        policy: options.policy ?? policyOf(),
        policyDigest: DIGEST,
        token: { jwt: TOKEN, expiresAt: options.expiresAt ?? new Date(Date.now() + 60_000) },
        principal: { issuer: 'test', subject: 'someone', tenant: 'acme' },
        requestId: 'req-of-the-call',
        policyCommit: '',
        policySerial: 0n,
      },
    });
    if (answer.$case !== 'bound') throw new Error(`bound expected, ${answer.$case} came`);
    return answer.value.caCertificate;
  }

  async unbind(execId = 'exec-1') {
    const answer = await this.ask({ $case: 'unbind', value: { execId } });
    if (answer.$case !== 'unbound') throw new Error(`unbound expected, ${answer.$case} came`);
    return answer.value;
  }

  async tighten(policy: Buffer, digest: string, execId = 'exec-1') {
    const answer = await this.ask({
      $case: 'tighten',
      value: {
        execId,
        policy,
        policyDigest: digest,
        policyCommit: '',
        policySerial: 0n,
      },
    });
    if (answer.$case !== 'tightened') throw new Error(`tightened expected, ${answer.$case} came`);
    return answer.value;
  }

  /** Sends a request that has no answer. */
  tell(request: NonNullable<AttachRequest['request']>): void {
    this.call.write({ request });
  }

  /** Ends the stream and waits for the other side to end it too. */
  async close(): Promise<void> {
    this.call.end();
    await this.ended;
  }
}

/** So many times `quietMs` the first byte may take: a machine that is busy is not silent. */
const FIRST_TICKS = 40;
/** Between one and two times. */
const NEXT_TICKS = 2;

/**
 * Sends bytes (Latin-1) to a door and resolves to everything that came back until it closed, or was quiet for `quietMs` after the last byte. Quiet
 * is counted in ticks: a second in which this process stands still is one of them.
 */
export function send(door: string, bytes: string | Buffer, quietMs = 150): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path: door });
    let text = '';
    let left = FIRST_TICKS;
    const ticking = setInterval(() => {
      left -= 1;
      if (left <= 0) socket.destroy();
    }, quietMs);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      left = NEXT_TICKS;
    });
    socket.on('error', () => {});
    socket.once('close', () => {
      clearInterval(ticking);
      resolve(text);
    });
    socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  });
}

/** A GET as a program writes it that wants the connection closed, unless `extra` says otherwise. */
export function get(target: string, host: string, extra = ''): string {
  const close = /^connection:/im.test(extra) ? '' : 'Connection: close\r\n';
  return `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n${close}${extra}\r\n`;
}

export function statusOf(answer: string): number {
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);
}

export function reasonOf(answer: string): string | undefined {
  return /\r\nx-outrider-reason: (\S+)/i.exec(answer)?.[1];
}

/** Makes the proxy answer with a head alone; what is returned sends the body behind it, one event, and ends it. */
export function answerLate(proxy: RecordingProxy): () => void {
  let end = (): void => {};
  proxy.answer = (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    end = () => void response.end('data: 1\n\n');
  };
  return () => end();
}

export async function until(condition: () => boolean, withinMs = 60_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The audit records of requests that a proxy has, parsed. */
export function requestRecords({ auditLines }: RecordingProxy): Record<string, unknown>[] {
  return auditLines
    .map((line): unknown => JSON.parse(line))
    .filter(isRecord)
    .filter(({ event }) => event === 'request');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** The values of a header among raw headers. */
export function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name);
}

function recorded(request: IncomingMessage): Recorded {
  const { method = '', url = '', rawHeaders } = request;
  return { method, url, headers: rawHeaders, body: '', complete: false };
}

/** The first bytes of OpenSSL for this server name. */
export function helloFor(servername: string | undefined): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        resolve(chunk);
        done();
      },
    });
    connectTls({ socket: wire, ...(servername === undefined ? {} : { servername }) }).on(
      'error',
      () => {},
    );
  });
}

/** Does something and stands still, as a process does whose machine has other work: what is sent meanwhile waits, and timers come first then. */
export async function standStill(ms: number, behind: () => void): Promise<void> {
  await new Promise(setImmediate); // timers are the next that Node looks at
  behind();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
