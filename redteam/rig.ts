import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, get, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata } from '@grpc/grpc-js';
import { hashLine, readLine } from '#core/audit';
import { OutriderError } from '#core/errors';
import { listen } from '#core/http';
import { createKeySet, readSigningKey } from '#core/keys';
import { uidOf } from '#core/mesh-user';
import { LOCAL_PRINCIPAL, type Principal } from '#core/principal';
import { ensureRuntimeDir, writeMeshFile } from '#core/runtime-dir';
import { AssertionSigner } from '#core/tokens';
import { processesNaming } from './host.ts';

const START_WITHIN_MS = 120_000;
const STOP_WITHIN_MS = 60_000;
const ASSERTION_EVERY_MS = 20_000;
const KEPT_OF_LOG = 16_384;

/** The one host to which the policy lets a tunnel out; attacks on the door ask for everything else. */
export const ALLOWED_HOST = 'allowed.example.com';
/** The one request that the policy lets out, as a program spells it. */
export const ALLOWED_PATH = '/http/allowed/open/x';
/** What of all that may arrive behind the door. */
const FORWARDED =
  /^(GET http:\/\/http-allowed\.[\w.]+\/open\/x|CONNECT allowed\.example\.com:443)$/;
const ISSUER = 'outrider:redteam';
const STRANGER: Principal = { ...LOCAL_PRINCIPAL, issuer: ISSUER, subject: 'stranger' };

const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: redteam, owner: redteam}
spec:
  members:
    - {issuer: "${LOCAL_PRINCIPAL.issuer}"}
    - {issuer: "${ISSUER}"}
  sandbox:
    {memory: 256MiB, disk: 16MiB, pids: 64, cpus: 1, output: 64MiB, timeout: 60s, sessions: 64, concurrent: 64}
---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: redteam, owner: redteam}
spec:
  subjects: [{role: redteam}]
  mode: enforce
  allow:
    - {id: one, datasource: http/allowed, methods: [GET], paths: ["/open/**"]}
    - {id: two, hosts: [${ALLOWED_HOST}], protocols: [tunnel]}
---
apiVersion: outrider/v1
kind: Datasource
metadata: {name: allowed, owner: redteam}
spec: {type: http, endpoint: "https://${ALLOWED_HOST}", auth: {type: bearer}, secretRef: "file:none"}
`;

export interface RigOptions {
  /** argv of `outrider` itself. */
  readonly self: readonly string[];
  readonly backends: readonly string[];
  /** A variable of the runner's own environment that no sandbox may see. */
  readonly secret: string;
}

/** A sidecar and a runner of our own, and what plays the proxy behind them: nothing in common with any other of this machine. */
export class Rig {
  readonly directory: string;
  readonly secret: string;
  /** What got out of a sandbox as far as the proxy without being allowed: `METHOD URL`. */
  readonly forwarded: string[] = [];
  readonly #options: RigOptions;
  readonly #signer: AssertionSigner;
  readonly #local: AssertionSigner;
  readonly #proxy: Server;
  #sidecar: ChildProcess | undefined;
  #runner: ChildProcess | undefined;
  #renewal: NodeJS.Timeout | undefined;
  #said = '';

  constructor(options: RigOptions) {
    this.#options = options;
    this.secret = options.secret;
    this.directory = mkdtempSync(join(tmpdir(), 'o-rig-'));
    chmodSync(this.directory, 0o755); // the sandboxes' users come through here
    ensureRuntimeDir(this.#at('run'), uidOf('auto'));
    mkdirSync(this.#at('policies'));
    writeFileSync(this.#at('policies/redteam.yaml'), POLICIES);
    const keys = createKeySet(this.#at('run/keys'));
    this.#signer = new AssertionSigner(readSigningKey(keys.gateway));
    this.#local = new AssertionSigner(readSigningKey(keys.local));
    this.#proxy = this.#playProxy();
  }

  get address(): string {
    return `unix:${this.socket('runner')}`;
  }

  get runnerPid(): number {
    return this.#runner?.pid ?? 0;
  }

  /** Where a part listens. */
  socket(name: 'runner' | 'sidecar' | 'proxy' | 'admin'): string {
    return this.#at(`run/${name}.sock`);
  }

  get sandboxes(): string {
    return this.#at('boxes');
  }

  /** @throws {OutriderError} CONFIG_INVALID with what the part said */
  async start(): Promise<void> {
    await listen(this.#proxy, { kind: 'unix', path: this.socket('proxy') });
    const assertion = this.#at('run/local-assertion.jwt');
    const renew = async () => writeMeshFile(assertion, await this.#local.sign(LOCAL_PRINCIPAL));
    await renew();
    this.#renewal = setInterval(() => void renew(), ASSERTION_EVERY_MS).unref();
    const sidecarAdmin = this.#at('run/sidecar-admin.sock');
    this.#sidecar = this.#spawn('sidecar', ['--admin', `unix:${sidecarAdmin}`]);
    await this.#ready(this.#sidecar, sidecarAdmin);
    this.#runner = this.#spawn(
      'runner',
      [
        ['--policies', this.#at('policies')],
        ['--sharing', 'host'],
        ['--sandbox-directory', this.sandboxes],
        ['--admin', `unix:${this.socket('admin')}`],
        ['--capacity', '64'],
        ['--backends', this.#options.backends.join(',')],
      ].flat(),
    );
    await this.#ready(this.#runner, this.socket('admin'));
  }

  /** Metadata of a call by somebody else. */
  async stranger(): Promise<Metadata> {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${await this.#signer.sign(STRANGER)}`);
    return metadata;
  }

  /** Kills the runner as a crash would. */
  async crash(): Promise<void> {
    const runner = this.#runner;
    if (!runner || runner.exitCode !== null) return;
    const over = once(runner, 'exit');
    runner.kill('SIGKILL');
    await over;
  }

  log() {
    return this.#said;
  }
  async stop(): Promise<void> {
    clearInterval(this.#renewal);
    for (const child of [this.#runner, this.#sidecar]) await ended(child);
    // What a killed runner leaves to its launcher is cleared up a moment later, in this directory.
    const deadline = Date.now() + STOP_WITHIN_MS;
    while (processesNaming(this.directory).length > 0 && Date.now() < deadline) await sleep(20);
    this.#proxy.closeAllConnections();
    this.#proxy.close();
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }

  #at(path: string): string {
    return join(this.directory, path);
  }

  #spawn(part: string, options: readonly string[]): ChildProcess {
    const [command = '', ...argv] = this.#options.self;
    const child = spawn(command, [...argv, part, ...options], {
      env: {
        PATH: process.env['PATH'],
        OUTRIDER_RUNTIME_DIR: this.#at('run'),
        OUTRIDER_STATE_DIR: this.#at('state'),
        OUTRIDER_SUPERVISED: '1', // it ends with this process, however that ends
        OUTRIDER_REDTEAM_SECRET: this.secret,
      },
      stdio: ['pipe', 'ignore', 'pipe'],
      detached: true,
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-KEPT_OF_LOG);
    });
    return child;
  }

  async #ready(child: ChildProcess, admin: string): Promise<void> {
    const deadline = Date.now() + START_WITHIN_MS;
    while ((await statusOf(admin)) !== 200) {
      if (child.exitCode !== null || Date.now() > deadline)
        throw new OutriderError(
          'CONFIG_INVALID',
          `a part to be attacked did not start:\n${this.#said}`,
        );
      await sleep(20);
    }
  }

  #note(what: string): void {
    if (!FORWARDED.test(what)) this.forwarded.push(what);
  }

  /** Takes the audit of the sidecar, and notes everything else that comes: none of it goes any further. */
  #playProxy(): Server {
    const server = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      request.on('end', () => {
        if (request.headers['content-type'] !== 'application/x-ndjson') {
          const { method = '', url = '', headers } = request;
          const other = URL.parse(url)?.host === headers.host ? '' : ` for ${headers.host ?? ''}`;
          this.#note(`${method} ${url}${other}`);
          response.end('reached');
          return;
        }
        const line = body.trimEnd().split('\n').at(-1) ?? '';
        const { writer, seq } = readLine(line) ?? {};
        response.end(JSON.stringify({ acknowledged: { writer, seq, hash: hashLine(line) } }));
      });
    });
    server.on('clientError', (_error, socket) => {
      this.#note('bytes that are no request');
      socket.destroy();
    });
    server.on('connect', (request, socket) => {
      this.#note(`CONNECT ${request.url ?? ''}`);
      socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
    });
    return server;
  }
}

/** What an admin server answers at /readyz; 0 where nobody does. */
function statusOf(socketPath: string): Promise<number> {
  return new Promise((resolve) => {
    get({ socketPath, path: '/readyz', agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    }).on('error', () => resolve(0));
  });
}

async function ended(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
  child.kill('SIGTERM');
  await exit;
  clearTimeout(timer);
}
