import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { accepts } from '#core/http';
import { createKeySet, readSigningKey } from '#core/keys';
import { uidOf } from '#core/mesh-user';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { ensureRuntimeDir, writeMeshFile } from '#core/runtime-dir';
import { outriderArgv } from '#core/testing/outrider-argv';
import { AssertionSigner } from '#core/tokens';
import { descendantsOf, type Seen, seen } from './processes.ts';
import { RunnerClient } from './runner-client.ts';

const READY_WITHIN_MS = 120_000;
const STOP_WITHIN_MS = 120_000;
/** Well within the 60 s that an assertion lives. */
const ASSERTION_EVERY_MS = 20_000;

/** Host uids that one mesh gives to its sandboxes: a range that no other mesh of this machine has. */
const UID_COUNT = 400;
const MESHES_PER_PROCESS = 5;
const FIRST_UID = 1_940_000_000 + (process.pid % 10_000) * UID_COUNT * MESHES_PER_PROCESS;
let meshes = 0;

/** What runs: each is a process of its own. */
export type Part = 'proxy' | 'sidecar' | 'runner';
const PARTS: readonly Part[] = ['proxy', 'sidecar', 'runner'];

export interface RunnerMeshOptions {
  /** The text of one policy file; the roles' member is the local principal. */
  readonly policies: string;
  /** A bundle that proxy and runner read instead, and the public keys that it is signed with; they take no directory. */
  readonly bundle?: { readonly path: string; readonly keys: string };
  /** Options of `outrider runner`. */
  readonly argv?: readonly string[];
  /** Runs what `npm start` runs, dist/, instead of the sources. */
  readonly built?: boolean;
  /** One sidecar for all sandboxes (default), or a process for each, which the runner starts. */
  readonly sharing?: 'host' | 'none';
  /** Starts every process with Node's inspector on a free port of this machine, so that its memory can be looked into. */
  readonly inspected?: boolean;
}

/**
 * Proxy, sidecar and a runner as real processes, without gateway and server: what a gRPC client needs. The calls of
 * `client` are the local principal's. Each part can be killed and started again, as a supervisor would.
 */
export class RunnerMesh {
  readonly directory: string;
  readonly runtime: string;
  readonly sandboxes: string;
  /** TMPDIR of every part. */
  readonly temporary: string;
  readonly firstUid: number;
  readonly client: RunnerClient;
  readonly #options: RunnerMeshOptions;
  readonly #children = new Map<Part, ChildProcess>();
  readonly #signer: AssertionSigner;
  #renewal: NodeJS.Timeout | undefined;
  #said = '';

  constructor(options: RunnerMeshOptions) {
    this.#options = options;
    this.directory = mkdtempSync(join(tmpdir(), 'o-'));
    chmodSync(this.directory, 0o755); // the sandboxes' users come through here
    this.runtime = join(this.directory, 'run');
    this.sandboxes = join(this.directory, 'boxes');
    this.temporary = join(this.directory, 'tmp');
    ensureRuntimeDir(this.runtime, uidOf('auto'));
    mkdirSync(this.temporary);
    mkdirSync(join(this.directory, 'policies'));
    writeFileSync(join(this.directory, 'policies', 'roles.yaml'), options.policies);
    this.#signer = new AssertionSigner(
      readSigningKey(createKeySet(join(this.runtime, 'keys')).local),
    );
    this.firstUid = FIRST_UID + (meshes++ % MESHES_PER_PROCESS) * UID_COUNT;
    this.client = new RunnerClient(`unix:${this.socket}`);
  }

  get sharing(): 'host' | 'none' {
    return this.#options.sharing ?? 'host';
  }

  /** Where the runner serves gRPC. */
  get socket(): string {
    return join(this.runtime, 'runner.sock');
  }

  /** Starts every part that does not run, in order, and waits until the runner is ready. */
  async start(): Promise<void> {
    await this.#assertLocal();
    for (const part of PARTS)
      if (!this.runs(part) && (part !== 'sidecar' || this.sharing === 'host'))
        await this.startPart(part);
  }

  /** Whether a part's process is there. */
  runs(part: Part): boolean {
    const child = this.#children.get(part);
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  pid(part: Part): number {
    const pid = this.runs(part) ? this.#children.get(part)?.pid : undefined;
    assert.ok(pid, `${part} runs`);
    return pid;
  }

  /** Every process of the mesh that is no sandbox's: its parts, and what the runner has started of `outrider`. */
  parts(): Seen[] {
    const own = PARTS.filter((part) => this.runs(part)).map((part) => this.pid(part));
    const started = this.runs('runner') ? descendantsOf(this.pid('runner')) : [];
    return [
      ...own.map(seen),
      ...started.filter(({ argv }) => argv.includes('launcher') || argv.includes('sidecar')),
    ];
  }

  /** The process that holds what the runner must not: its child, by its verb. Undefined between two lives. */
  launcher(): number | undefined {
    return this.parts().find(({ argv }) => argv.includes('launcher'))?.pid;
  }

  /** The sidecars that run: the shared one, or the runner's, those included that wait for a sandbox. */
  sidecars(): number[] {
    return this.parts()
      .filter(({ argv }) => argv.includes('sidecar'))
      .map(({ pid }) => pid);
  }

  /** Starts one part and waits until it is ready. */
  async startPart(part: Part): Promise<void> {
    this.#children.set(part, this.#spawn(part));
    await this.untilReady(part);
  }

  /** Waits until a part is ready, for the runner with everything that it needs; fails where it has ended. */
  async untilReady(part: Part = 'runner'): Promise<void> {
    const deadline = Date.now() + READY_WITHIN_MS;
    while (!(await this.#isReady(part))) {
      assert.ok(
        this.runs(part) && Date.now() < deadline,
        `${part} did not become ready: ${JSON.stringify((await this.ready()).detail)}\n${this.#said}`,
      );
      await sleep(10);
    }
    if (part === 'runner') await this.client.connected();
  }

  /** Resolves when the process that a part is now has ended. */
  async exited(part: Part): Promise<void> {
    const child = this.#children.get(part);
    if (child && this.runs(part)) await once(child, 'exit');
  }

  /** Ends a part with this signal and waits for its exit. */
  async end(part: Part, signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#children.get(part);
    if (!child || !this.runs(part)) return child?.exitCode ?? null;
    const exited = once(child, 'exit');
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
    await exited;
    clearTimeout(late);
    return child.exitCode;
  }

  /** The runner's own word on itself; undefined where it does not answer. */
  ready(): Promise<{ readonly ok: boolean; readonly detail: Readonly<Record<string, unknown>> }> {
    return new Promise((resolve) => {
      const nobody = () => resolve({ ok: false, detail: {} });
      const asked = get(
        { socketPath: join(this.runtime, 'admin.sock'), path: '/readyz', agent: false },
        (response) => {
          let body = '';
          response.setEncoding('utf8').on('data', (text: string) => {
            body += text;
          });
          response.on('error', nobody);
          response.on('end', () =>
            resolve({ ok: response.statusCode === 200, detail: parsed(body) }),
          );
        },
      );
      asked.on('error', nobody);
    });
  }

  /** Where the inspector of each process listens, in the order in which they started: proxy, sidecar, runner, launcher. */
  inspectors(): string[] {
    return [...this.#said.matchAll(/^Debugger listening on (ws:\S+)$/gm)].map(
      ([, url]) => url ?? '',
    );
  }

  /** What the parts have logged. */
  get log(): string {
    return this.#said;
  }

  /** Ends the parts, last first, and keeps the directory. Resolves to the runner's exit code. */
  async stopParts(): Promise<number | null> {
    clearInterval(this.#renewal);
    const code = await this.end('runner', 'SIGTERM');
    await this.end('sidecar', 'SIGTERM');
    await this.end('proxy', 'SIGTERM');
    return code;
  }

  /** Ends everything and removes the directory. */
  async stop(): Promise<number | null> {
    this.client.close();
    const code = await this.stopParts();
    rmSync(this.directory, { recursive: true, force: true });
    return code;
  }

  async #isReady(part: Part): Promise<boolean> {
    if (part === 'runner') return (await this.ready()).ok;
    return accepts({ kind: 'unix', path: join(this.runtime, `${part}.sock`) });
  }

  /** As `outrider up` does for who may open the runner's socket. */
  async #assertLocal(): Promise<void> {
    const renew = async () =>
      writeMeshFile(
        join(this.runtime, 'local-assertion.jwt'),
        await this.#signer.sign(LOCAL_PRINCIPAL),
      );
    await renew();
    clearInterval(this.#renewal);
    this.#renewal = setInterval(() => void renew(), ASSERTION_EVERY_MS).unref();
  }

  #spawn(part: Part): ChildProcess {
    const { built, argv = [], inspected = false, bundle } = this.#options;
    const policies = bundle
      ? ['--policies', bundle.path, '--policy-keys', bundle.keys, '--policy-require', 'bundle']
      : ['--policies', join(this.directory, 'policies')];
    const command = outriderArgv(built);
    const admin = part === 'runner' ? 'admin' : `${part}-admin`;
    const own: Record<Part, readonly string[]> = {
      proxy: [...policies, '--limits-datasource', 'none'], // tests come faster than a person asks
      sidecar: [],
      runner: [
        policies,
        ['--sharing', this.sharing],
        ['--sandbox-directory', this.sandboxes],
        ['--first-uid', String(this.firstUid), '--uid-count', String(UID_COUNT)],
        argv,
      ].flat(),
    };
    const child = spawn(
      process.execPath,
      [...command, part, '--admin', `unix:${join(this.runtime, `${admin}.sock`)}`, ...own[part]],
      {
        env: {
          PATH: process.env['PATH'],
          HOME: this.directory,
          TMPDIR: this.temporary,
          OUTRIDER_RUNTIME_DIR: this.runtime,
          OUTRIDER_STATE_DIR: join(this.directory, 'state'),
          OUTRIDER_SUPERVISED: '1', // ends with this process, however that ends
          ...(inspected ? { NODE_OPTIONS: '--inspect=127.0.0.1:0' } : {}),
        },
        stdio: ['pipe', 'ignore', 'pipe'],
      },
    );
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-LOG_KEPT);
    });
    return child;
  }

  /** Whether a host uid is one of this mesh's sandboxes. */
  owns(uid: number): boolean {
    return uid >= this.firstUid && uid < this.firstUid + UID_COUNT;
  }
}

const LOG_KEPT = 200_000;

/** Starts a mesh and waits until it is ready. Whoever starts it stops it. */
export async function startRunnerMesh(options: RunnerMeshOptions): Promise<RunnerMesh> {
  const mesh = new RunnerMesh(options);
  try {
    await mesh.start();
    return mesh;
  } catch (error) {
    await mesh.stop();
    throw error;
  }
}

function parsed(body: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(body));
  } catch {
    return {};
  }
}
