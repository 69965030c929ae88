import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '#core/package-root';
import { outriderArgv } from '#core/testing/outrider-argv';
import { connect, type Outrider } from '#sdk';
import { descendantsOf, isAlive, processesNaming, type Seen } from './processes.ts';
import { cgroupsOf } from './residue.ts';

const READY_WITHIN_MS = 120_000;
const STOP_WITHIN_MS = 120_000;
const QUICKSTART = join(packageRoot, 'examples/quickstart/policies');

export interface MeshOptions {
  /** Further environment of `outrider up`; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Options after `outrider up`. */
  readonly argv?: readonly string[];
  /** Changes one policy file; its ports are free ones already. */
  readonly policy?: (text: string, file: string) => string;
  /** Put before the command: `ip netns exec NAME`. */
  readonly within?: readonly string[];
}

/** What a command left behind. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Free ports of 127.0.0.1, by who gets them. */
export interface Ports {
  readonly gateway: number;
  readonly server: number;
  readonly runner: number;
  readonly sidecar: number;
  readonly proxy: number;
  /** Where the policies say that the datasource `prometheus/metrics` is. */
  readonly metrics: number;
  /** The same of `http/example`. */
  readonly example: number;
}

/** Directories, ports and environment of one mesh that has nothing in common with any other of this machine. */
export interface Place {
  readonly directory: string;
  readonly runtime: string;
  readonly state: string;
  /** A copy of the quickstart's policies with these ports. */
  readonly policies: string;
  readonly ports: Ports;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Runs `outrider` to its end. */
  readonly outrider: (argv: readonly string[], options?: CommandOptions) => Promise<Ended>;
  /** Starts `outrider` and leaves it running. */
  readonly start: (argv: readonly string[], options?: CommandOptions) => ChildProcess;
  /** Writes a secret as the proxy reads it. */
  readonly writeSecret: (name: string, value: string) => void;
  /** Ends what still names the directory, and removes it. */
  readonly remove: () => void;
}

export interface CommandOptions {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly timeoutMs?: number;
}

/** A mesh started by `outrider up`, every part of it a real process. */
export interface RunningMesh extends Place {
  readonly url: URL;
  readonly token: string;
  readonly supervisor: ChildProcess;
  /** What it wrote on stdout, and the log of all parts so far. */
  readonly banner: () => string;
  readonly log: () => string;
  readonly sdk: Outrider;
  /** The process of a part, as the supervisor runs it now. */
  readonly part: (name: string) => number;
  /** Every process of it. */
  readonly processes: () => Seen[];
  /** Records of `proxy`, `runner` or `sidecar` so far. */
  readonly audit: (name: string) => Readonly<Record<string, unknown>>[];
  /** Sends what Ctrl-C sends, and asserts that it ends with 0 and leaves no process, socket, mount or control group. */
  readonly stop: (signal?: NodeJS.Signals) => Promise<void>;
}

/** A place for a mesh, with nothing running in it. */
export async function makePlace(options: MeshOptions = {}): Promise<Place> {
  const directory = mkdtempSync(join(tmpdir(), 'o-'));
  chmodSync(directory, 0o755); // the sandboxes' users come through here
  const [runtime, state, policies] = ['run', 'state', 'policies'].map((name) =>
    join(directory, name),
  );
  assert.ok(runtime && state && policies);
  const ports = await freePorts();
  copyPolicies(policies, ports, options.policy);
  const { within = [] } = options;
  const env = {
    PATH: process.env['PATH'],
    HOME: directory,
    OUTRIDER_RUNTIME_DIR: runtime,
    OUTRIDER_STATE_DIR: state,
    OUTRIDER_UP_POLICIES: policies,
    OUTRIDER_GATEWAY_LISTEN: `127.0.0.1:${ports.gateway}`,
    OUTRIDER_GATEWAY_SERVERS: `http://127.0.0.1:${ports.server}/mcp`,
    OUTRIDER_SERVER_LISTEN: `127.0.0.1:${ports.server}`,
    OUTRIDER_RUNNER_ADMIN: `127.0.0.1:${ports.runner}`,
    OUTRIDER_SIDECAR_ADMIN: `127.0.0.1:${ports.sidecar}`,
    OUTRIDER_PROXY_ADMIN: `127.0.0.1:${ports.proxy}`,
    ...options.env,
  };
  const start: Place['start'] = (argv, given = {}) => {
    const [program = '', ...words] = [...within, process.execPath, ...outriderArgv(), ...argv];
    const child = spawn(program, words, {
      env: { ...env, ...given.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stdin?.on('error', () => {}); // it may end without reading
    child.stdin?.end(given.stdin ?? '');
    return child;
  };
  return {
    directory,
    runtime,
    state,
    policies,
    ports,
    env,
    start,
    outrider: (argv, given = {}) => ended(start(argv, given), given.timeoutMs ?? 120_000),
    writeSecret(name, value) {
      mkdirSync(join(state, 'secrets'), { recursive: true, mode: 0o700 });
      writeFileSync(join(state, 'secrets', name), value, { mode: 0o600 });
    },
    remove() {
      for (const { pid } of processesNaming(directory)) tryKill(pid);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Starts a mesh and waits until it is ready. Whoever starts it stops it. */
export async function startMesh(options: MeshOptions = {}): Promise<RunningMesh> {
  const place = await makePlace(options);
  const supervisor = place.start(['up', ...(options.argv ?? [])]);
  const said = { stdout: '', stderr: '' };
  supervisor.stdout?.on('data', (chunk: Buffer) => (said.stdout += chunk.toString()));
  supervisor.stderr?.on('data', (chunk: Buffer) => (said.stderr += chunk.toString()));
  const deadline = Date.now() + READY_WITHIN_MS;
  while (!said.stdout.includes('Outrider is ready')) {
    if (supervisor.exitCode !== null || Date.now() > deadline) {
      place.remove();
      assert.fail(`the mesh did not start:\n${said.stderr}`);
    }
    await sleep(10);
  }
  const sdk = connect({ address: `unix:${join(place.runtime, 'runner.sock')}` });
  const processes = () => processesNaming(place.directory);
  return {
    ...place,
    url: new URL(`http://127.0.0.1:${place.ports.gateway}/mcp`),
    token: readFileSync(join(place.state, 'token'), 'utf8').trim(),
    supervisor,
    banner: () => said.stdout,
    log: () => said.stderr,
    sdk,
    processes,
    part(name) {
      const found = descendantsOf(supervisor.pid ?? 0).find(({ argv }) => argv.includes(name));
      assert.ok(found, `${name} runs`);
      return found.pid;
    },
    audit: (name) => readAudit(join(place.state, 'audit', `${name}.jsonl`)),
    async stop(signal = 'SIGINT') {
      try {
        if (supervisor.exitCode !== null) return;
        const exited = once(supervisor, 'exit');
        supervisor.kill(signal);
        const [code]: unknown[] = await Promise.race([
          exited,
          sleep(STOP_WITHIN_MS, ['late'], { ref: false }),
        ]);
        assert.equal(code, 0, `outrider up ends with 0:\n${said.stderr}`);
        await assertNothingLeft(place);
      } finally {
        sdk.close();
        place.remove();
      }
    },
  };
}

/** The lines of an audit file, parsed; none where there is no file yet. A last line that is being written is left out. */
export function readAudit(path: string): Readonly<Record<string, unknown>>[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line): Record<string, unknown> => Object(JSON.parse(line)));
}

/** Waits for a fact to become true, and looks every few milliseconds. */
export async function until(
  what: string,
  fact: () => boolean | Promise<boolean>,
  withinMs = 60_000,
  everyMs = 20,
): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await fact())) {
    assert.ok(Date.now() < deadline, `${what}: not within ${withinMs} ms`);
    await sleep(everyMs);
  }
}

async function assertNothingLeft(place: Place): Promise<void> {
  // The kernel tears a namespace down a moment after its last process.
  await until(
    'its processes end',
    () => processesNaming(place.directory).length === 0,
    30_000,
  ).catch(() => {});
  const left = processesNaming(place.directory).filter(({ pid }) => isAlive(pid));
  assert.deepEqual(left, [], 'no process is left');
  const bound = readFileSync('/proc/net/unix', 'utf8').split('\n');
  assert.deepEqual(
    bound.filter((line) => line.includes(place.directory)),
    [],
    'no socket is bound',
  );
  assert.deepEqual(readdirSync(place.runtime), [], 'the runtime directory is empty');
  const sandboxes = `${place.runtime}-sandboxes`;
  assert.ok(!existsSync(sandboxes), 'the directory of the sandboxes is gone');
  assert.deepEqual(cgroupsOf(sandboxes), [], 'no control group is left');
}

function copyPolicies(to: string, ports: Ports, change: MeshOptions['policy']): void {
  cpSync(QUICKSTART, to, { recursive: true });
  for (const file of readdirSync(to)) {
    const text = readFileSync(join(to, file), 'utf8')
      .replaceAll('127.0.0.1:9090', `127.0.0.1:${ports.metrics}`)
      .replaceAll('127.0.0.1:9191', `127.0.0.1:${ports.example}`);
    writeFileSync(join(to, file), change?.(text, file) ?? text);
  }
}

/** Ports that are free now: asked for all at once, so that no two are the same. */
async function freePorts(): Promise<Ports> {
  const names = ['gateway', 'server', 'runner', 'sidecar', 'proxy', 'metrics', 'example'] as const;
  const servers = names.map(() => createServer());
  await Promise.all(servers.map((server) => once(server.listen(0, '127.0.0.1'), 'listening')));
  const [gateway, server, runner, sidecar, proxy, metrics, example] = servers.map((one) => {
    const address = one.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map((one) => once(one.close(), 'close')));
  assert.ok(gateway && server && runner && sidecar && proxy && metrics && example);
  return { gateway, server, runner, sidecar, proxy, metrics, example };
}

/** What a child says until it ends; one that takes too long is killed, and its code is null. */
export async function ended(child: ChildProcess, timeoutMs: number): Promise<Ended> {
  const said = { stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk: Buffer) => (said.stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (said.stderr += chunk.toString()));
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  const [code]: unknown[] = await once(child, 'close');
  clearTimeout(timer);
  return { code: typeof code === 'number' ? code : null, ...said };
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
