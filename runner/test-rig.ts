import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type CallOptions,
  type ChannelCredentials,
  type Client,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { hashLine, readLine } from '#core/audit';
import { accepts, listen } from '#core/http';
import { createKeySet, readSigningKey } from '#core/keys';
import { uidOf } from '#core/mesh-user';
import type { Principal } from '#core/principal';
import { ensureRuntimeDir } from '#core/runtime-dir';
import { asUser } from '#core/test-user';
import { outriderArgv } from '#core/testing/outrider-argv';
import { AssertionSigner } from '#core/tokens';
import {
  type ExecRequest,
  type ExecResponse,
  ExecServiceClient,
  ExecSpec,
  FileServiceClient,
  HealthClient,
  RevocationServiceClient,
  SandboxServiceClient,
} from '#proto';

/** For tests alone: a runner and a sidecar as real processes, clients of every service, and callers with assertions. */

const START_WITHIN_MS = 120_000; // many of them start at a time

/**
 * Starts a sidecar and a runner that shares it, in directories of their own. `policies` is the text of one policy file. Both run as
 * `user`, which only root can choose; default: whoever runs the tests.
 */
export async function startRig(
  policies: string,
  options: readonly string[] = [],
  user?: number,
): Promise<Rig> {
  const directory = mkdtempSync(join(tmpdir(), 'o-'));
  chmodSync(directory, 0o755); // the sandboxes' users come through here
  const rig = new Rig(directory, user);
  const keys = createKeySet(join(rig.runtime, 'keys'));
  rig.signer = new AssertionSigner(readSigningKey(keys.gateway));
  mkdirSync(join(directory, 'policies'));
  writeFileSync(join(directory, 'policies', 'roles.yaml'), policies);
  if (user !== undefined) spawnSync('chown', ['-R', `${user}:${user}`, directory]);
  try {
    await rig.start(options);
    return rig;
  } catch (error) {
    await rig.stop();
    throw error;
  }
}

type ClientClass<C extends Client> = new (address: string, how: ChannelCredentials) => C;

export class Rig {
  readonly directory: string;
  readonly runtime: string;
  readonly sandboxes: string;
  signer: AssertionSigner | undefined;
  runner: ChildProcess | undefined;
  #sidecar: ChildProcess | undefined;
  #said = '';
  readonly #user: number | undefined;
  readonly #clients: Client[] = [];
  readonly #proxy = playProxy();
  readonly #renewals: NodeJS.Timeout[] = [];

  constructor(directory: string, user?: number) {
    this.directory = directory;
    this.#user = user;
    this.runtime = join(directory, 'run');
    this.sandboxes = join(directory, 'boxes');
    ensureRuntimeDir(this.runtime, uidOf('auto'));
  }

  async start(options: readonly string[]): Promise<void> {
    await this.#startSidecar();
    await this.startRunner(options);
  }

  async #startSidecar(): Promise<void> {
    const proxy = join(this.runtime, 'proxy.sock');
    await listen(this.#proxy, { kind: 'unix', path: proxy });
    if (this.#user !== undefined) chownSync(proxy, this.#user, this.#user);
    const at = (name: string) => `unix:${join(this.runtime, name)}`;
    this.#sidecar = this.#spawn('sidecar', ['--watch-stdin', '--admin', at('sidecar-admin.sock')]);
    const deadline = Date.now() + START_WITHIN_MS;
    while (!(await accepts({ kind: 'unix', path: join(this.runtime, 'sidecar.sock') }))) {
      assert.ok(this.#sidecar.exitCode === null && Date.now() < deadline, this.#said);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Starts a runner where there is none, or none any more. */
  async startRunner(options: readonly string[]): Promise<void> {
    const at = (name: string) => `unix:${join(this.runtime, name)}`;
    const deadline = Date.now() + START_WITHIN_MS;
    this.runner = this.#spawn(
      'runner',
      [
        ['--policies', join(this.directory, 'policies')],
        ['--sharing', 'host'],
        ['--sandbox-directory', this.sandboxes],
        ['--admin', at('admin.sock')],
        // Its own range of uids, so that its processes can be told from those of any other runner of this machine.
        ['--first-uid', String(FIRST_UID), '--uid-count', String(UID_COUNT)],
        options,
      ].flat(),
    );
    while ((await this.admin('/readyz').catch(() => 0)) !== 200) {
      assert.ok(this.runner.exitCode === null && Date.now() < deadline, this.#said);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** What the runner says of itself. */
  readyz(): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      const socketPath = join(this.runtime, 'admin.sock');
      get({ socketPath, path: '/readyz', agent: false }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (piece: string) => {
          text += piece;
        });
        answer.on('end', () => resolve(JSON.parse(text)));
      }).on('error', reject);
    });
  }

  /** The status that the runner's admin server answers. */
  admin(path: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const socketPath = join(this.runtime, 'admin.sock');
      get({ socketPath, path, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      }).on('error', reject);
    });
  }

  get execs(): ExecServiceClient {
    return this.#client(ExecServiceClient);
  }
  get boxes(): SandboxServiceClient {
    return this.#client(SandboxServiceClient);
  }
  get files(): FileServiceClient {
    return this.#client(FileServiceClient);
  }
  get revocations(): RevocationServiceClient {
    return this.#client(RevocationServiceClient);
  }
  get health(): HealthClient {
    return this.#client(HealthClient);
  }

  /** Metadata of calls by this subject, good for as long as the rig is: an assertion lives a minute, and the tests of a file longer. */
  async as(subject: string, options: { role?: string } = {}): Promise<Metadata> {
    const principal: Principal = { issuer: ISSUER, subject, tenant: '', groups: [], claims: {} };
    const sign = async (): Promise<string> => (await this.signer?.sign(principal, options)) ?? '';
    const metadata = this.bearer(await sign());
    const renew = async (): Promise<void> =>
      metadata.set('authorization', `Bearer ${await sign()}`);
    this.#renewals.push(setInterval(() => void renew(), RENEW_EVERY_MS).unref());
    return metadata;
  }

  bearer(token: string): Metadata {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    return metadata;
  }

  /** What runner and sidecar have logged. */
  get log(): string {
    return this.#said;
  }

  /** Records of the runner's audit. */
  audit(): Record<string, unknown>[] {
    const text = readFileSync(join(this.directory, 'state', 'audit', 'runner.jsonl'), 'utf8');
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  }

  /** Whether anything is left of a sandbox. */
  isGone(sandboxId: string, hostUid: number): boolean {
    return !existsSync(join(this.sandboxes, sandboxId)) && !hasProcess(hostUid);
  }

  /** Memory that a process has in use, in bytes. */
  rss(child: ChildProcess | undefined): number {
    const status = readFileSync(`/proc/${child?.pid ?? 0}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1_024;
  }

  /** Ends everything, and removes the directory. Resolves to the runner's exit code. */
  async stop(): Promise<number | null> {
    for (const client of this.#clients) client.close();
    for (const renewal of this.#renewals) clearInterval(renewal);
    const code = await ended(this.runner);
    await ended(this.#sidecar);
    this.#proxy.closeAllConnections();
    this.#proxy.close();
    rmSync(this.directory, { recursive: true, force: true });
    return code;
  }

  #client<C extends Client>(type: ClientClass<C>): C {
    const known = this.#clients.find((client): client is C => client instanceof type);
    if (known) return known;
    const made = new type(
      `unix:${join(this.runtime, 'runner.sock')}`,
      credentials.createInsecure(),
    );
    this.#clients.push(made);
    return made;
  }

  #spawn(part: string, argv: readonly string[]): ChildProcess {
    const plain = [process.execPath, ...outriderArgv(), part, ...argv];
    const root = process.getuid?.() === 0;
    const [command = '', ...words] =
      this.#user === undefined || !root ? plain : asUser(this.#user, this.directory, plain);
    const child = spawn(command, words, {
      env: {
        PATH: process.env['PATH'],
        OUTRIDER_RUNTIME_DIR: this.runtime,
        OUTRIDER_STATE_DIR: join(this.directory, 'state'),
      },
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text;
    });
    return child;
  }
}

export const ISSUER = 'https://idp.test';
const RENEW_EVERY_MS = 5_000;
const UID_COUNT = 200;
const FIRST_UID = 1_930_000_000 + (process.pid % 10_000) * UID_COUNT;

/** Stores what sidecars deliver of their audit, by saying so. */
function playProxy() {
  return createServer((incoming, response) => {
    let body = '';
    incoming.setEncoding('utf8').on('data', (text: string) => {
      body += text;
    });
    incoming.on('end', () => {
      const line = body.trimEnd().split('\n').at(-1) ?? '';
      const { writer, seq } = readLine(line) ?? {};
      response.end(JSON.stringify({ acknowledged: { writer, seq, hash: hashLine(line) } }));
    });
  });
}

async function ended(child: ChildProcess | undefined): Promise<number | null> {
  if (!child) return null;
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exit = once(child, 'exit');
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
  child.kill('SIGTERM');
  await exit;
  clearTimeout(timer);
  return child.exitCode;
}

/** Only where sandboxes have uids of their own: as an ordinary user this process has the same. */
function hasProcess(uid: number): boolean {
  if (process.getuid?.() !== 0) return false;
  return readdirSync('/proc').some((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return new RegExp(`^Uid:\\s+${uid}\\b`, 'm').test(
        readFileSync(`/proc/${pid}/status`, 'utf8'),
      );
    } catch {
      return false;
    }
  });
}

/** Request and response of a client's unary method. */
type Unary<C, K extends keyof C> = C[K] extends (
  request: infer Q,
  metadata: Metadata,
  options: Partial<CallOptions>,
  done: (error: ServiceError | null, response: infer R) => void,
) => unknown
  ? { request: Q; response: R }
  : never;

/** A unary call as a promise. */
export function call<C extends Client, K extends keyof C & string>(
  client: C,
  method: K,
  request: Unary<C, K>['request'],
  metadata: Metadata,
): Promise<Unary<C, K>['response']> {
  return new Promise((resolve, reject) => {
    const send: unknown = client[method];
    assert.ok(typeof send === 'function');
    const done = (error: ServiceError | null, response: Unary<C, K>['response']) =>
      error ? reject(error) : resolve(response);
    Reflect.apply(send, client, [request, metadata, {}, done]);
  });
}

/** The code of ours that a call failed with; `none` where it did not. */
export async function codeOf(run: Promise<unknown>): Promise<string> {
  try {
    await run;
    return 'none';
  } catch (error) {
    assert.ok(error instanceof Error && 'metadata' in error && error.metadata instanceof Metadata);
    return String(error.metadata.get('outrider-error-code')[0] ?? error.message);
  }
}

/** What runs Python; everything else as in `over`. */
export function python(code: string, over: Partial<ExecSpec> = {}): ExecSpec {
  return ExecSpec.fromPartial({
    program: { $case: 'source', value: { language: 'python', code } },
    ...over,
  });
}

export interface ExecStream {
  readonly send: (request: NonNullable<ExecRequest['request']>) => void;
  readonly halfClose: () => void;
  readonly cancel: () => void;
  /** The next response; undefined at the end of the stream. */
  readonly next: () => Promise<NonNullable<ExecResponse['response']> | undefined>;
  /** All the rest. */
  readonly rest: () => Promise<NonNullable<ExecResponse['response']>[]>;
}

/** One Exec stream, started. */
export function openExec(
  client: ExecServiceClient,
  metadata: Metadata,
  spec: ExecSpec,
  options: { deadline?: number } = {},
): ExecStream {
  const stream = client.exec(metadata, options);
  stream.on('error', () => {}); // told by `next`
  const responses: AsyncIterator<ExecResponse> = stream[Symbol.asyncIterator]();
  const send: ExecStream['send'] = (request) => void stream.write({ request });
  const next: ExecStream['next'] = async () => {
    const { value, done } = await responses.next();
    return done === true ? undefined : value.response;
  };
  send({ $case: 'start', value: spec });
  return {
    send,
    halfClose: () => stream.end(),
    cancel: () => stream.cancel(),
    next,
    async rest() {
      const all: NonNullable<ExecResponse['response']>[] = [];
      for (let one = await next(); one; one = await next()) all.push(one);
      return all;
    },
  };
}
