import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Address } from '#core/address';
import { accepts } from '#core/http';

/**
 * The core of whatever is measured, which has it alone, and the core of everything around it: clients, origins, this process. `all` where what is
 * measured is several processes that wait for each other, as they do in real life.
 */
export const CORES = { subject: '1', rest: '0', all: '0,1' } as const;

export type Cores = (typeof CORES)[keyof typeof CORES];

const READY_WITHIN_MS = 20_000;
const RUN_WITHIN_MS = 120_000;
const TICKS_PER_SECOND = 100; // USER_HZ, which Linux shows to programs whatever its own tick is

/** A program that runs on one core until it is stopped. */
export interface Started {
  readonly pid: number;
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

export interface StartOptions {
  readonly core?: Cores;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** What it listens on: it is ready when something accepts there. */
  readonly listens?: Address;
}

/** @throws {Error} where there is one core only: two programs would then be measured as one */
export function assertTwoCores(): void {
  if (availableParallelism() < 2)
    throw new Error('two cores are needed: one for what is measured, one for its clients');
}

/** @throws {Error} that says what to install, where programs are missing that a measurement needs */
export function assertInstalled(programs: readonly string[]): void {
  const folders = (process.env['PATH'] ?? '').split(':').concat('/usr/sbin');
  const missing = programs.filter(
    (program) => !folders.some((folder) => existsSync(join(folder, program))),
  );
  if (missing.length > 0)
    throw new Error(
      `${missing.join(' and ')} must be installed: apt-get install --no-install-recommends ${missing.join(' ')}`,
    );
}

/** Keeps a process, with all its threads, on these cores from now on; what it starts from then on stays there, too. */
export function pin(pid: number, core: Cores): void {
  execFileSync('taskset', ['-a', '-p', '-c', core, String(pid)], { stdio: 'ignore' });
}

/** Starts a program on a core, and waits until it is ready. @throws {Error} with what it said, where it ends before that */
export async function start(argv: readonly string[], options: StartOptions = {}): Promise<Started> {
  const { core = CORES.subject, listens, env = process.env } = options;
  const child = spawn('taskset', ['-c', core, ...argv], {
    env,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4_000);
  });
  const { pid = 0 } = child;
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    const late = setTimeout(() => child.kill('SIGKILL'), 3_000);
    await exited;
    clearTimeout(late);
  };
  const deadline = Date.now() + READY_WITHIN_MS;
  for (let ready = listens === undefined; !ready; ready = !listens || (await accepts(listens))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`${argv[0]} did not start: ${said}`);
    }
    await sleep(2);
  }
  return { pid, child, stop };
}

/** Runs a program to its end; resolves to what it wrote on stdout. @throws {Error} with stderr where it fails */
export async function run(argv: readonly string[], core: Cores = CORES.rest): Promise<string> {
  const child = spawn('taskset', ['-c', core, ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: RUN_WITHIN_MS,
    killSignal: 'SIGKILL',
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (said.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (said.stderr += chunk.toString()));
  const [code]: unknown[] = await once(child, 'close');
  if (code !== 0) throw new Error(`${argv.join(' ').slice(0, 200)}: ${said.stderr || said.stdout}`);
  return said.stdout;
}

/** Microseconds of processor time that a process has used so far, in and for it, in all its threads; in steps of 10 ms. */
export function cpuUs(pid: number): number {
  // Behind the name, which may hold anything: field 14 is utime, 15 is stime.
  const fields = /\) (.*)$/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1_000_000) / TICKS_PER_SECOND;
}

/** A directory of its own, which whoever a process becomes may enter. */
export function benchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'o-bench-'));
  chmodSync(directory, 0o755);
  return directory;
}

/** As many ports of 127.0.0.1 as asked for, free now: asked for all at once, so that no two are the same. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(servers.map((server) => once(server.listen(0, '127.0.0.1'), 'listening')));
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === 'object' && address ? address.port : 0;
  });
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

/** Whatever was started, stopped last first. */
export class Undo {
  readonly #steps: (() => unknown)[] = [];

  add(step: () => unknown): void {
    this.#steps.push(step);
  }

  async all(): Promise<void> {
    for (const step of this.#steps.splice(0).toReversed()) await step();
  }
}
