import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Address, formatAddress } from '#core/address';
import { OutriderError } from '#core/errors';
import { accepts } from '#core/http';
import { newId } from '#core/ids';
import type { Logger } from '#core/log';
import type { MeshUser } from '#core/mesh-user';
import type { SidecarServiceClient } from '#proto';
import { sidecarClient } from './sidecar-link.ts';

/** Only against hanging: a process that ends is noticed at once. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 3_000;

/** A sidecar that one sandbox may attach to. */
export interface SidecarSlot {
  readonly client: SidecarServiceClient;
  /** Gives the slot back; a process of its own ends. */
  release(): void;
}

/** Where sandboxes get their sidecars (D6). */
export interface SidecarSource {
  take(): Promise<SidecarSlot>;
  close(): Promise<void>;
}

export interface SidecarProcessesOptions {
  /** argv of `outrider sidecar`, without options. */
  readonly command: readonly string[];
  readonly directory: string;
  /** Who they become where they are started as root. */
  readonly user: MeshUser;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly proxy: Address;
  readonly logLevel: string;
  /** Processes that wait for a sandbox. */
  readonly spares: number;
  readonly log: Logger;
}

/** A sidecar process for each sandbox, some started ahead: `sharing: none`. Each ends with its one attachment. */
export function createSidecarProcesses(options: SidecarProcessesOptions): SidecarSource {
  const spares: Promise<SidecarProcess>[] = [];
  const alive = new Set<ChildProcess>();
  let closing = false;

  const start = (): Promise<SidecarProcess> => {
    const started = startProcess(options, alive);
    started.catch((error: unknown) => options.log.error('a sidecar did not start', { error }));
    return started;
  };
  const refill = () => {
    if (closing) return;
    while (spares.length < options.spares) spares.push(start());
  };
  refill();

  return {
    async take() {
      if (closing) throw new OutriderError('DRAINING', 'the runner is stopping');
      for (let spare = spares.shift(); spare; spare = spares.shift()) {
        const found = await spare.catch(() => undefined);
        if (found && isRunning(found.child)) {
          setTimeout(refill, 50).unref(); // after the sandbox that wants this one
          return slot(found);
        }
      }
      const fresh = await start();
      setTimeout(refill, 50).unref();
      return slot(fresh);
    },
    async close() {
      closing = true;
      await Promise.allSettled(spares);
      await Promise.all([...alive].map(stop));
    },
  };
}

/** One process with many attachments: `sharing: host`, for a machine with a single tenant. */
export function createSharedSidecar(address: Address): SidecarSource {
  const client = sidecarClient(address);
  return {
    take: async () => ({ client, release: () => {} }),
    close: async () => client.close(),
  };
}

interface SidecarProcess {
  readonly child: ChildProcess;
  readonly client: SidecarServiceClient;
  readonly socket: string;
}

async function startProcess(
  { command, directory, user, env, proxy, logLevel }: SidecarProcessesOptions,
  alive: Set<ChildProcess>,
): Promise<SidecarProcess> {
  const socket = join(directory, `${newId('att')}.sock`);
  const [program = '', ...words] = command;
  const child = spawn(
    program,
    [
      ...words,
      '--listen',
      `unix:${socket}`,
      '--proxy',
      formatAddress(proxy),
      '--exit-with-attachment',
      '--watch-stdin',
      '--user',
      String(user),
      '--log-level',
      logLevel,
    ],
    {
      env,
      stdio: ['pipe', 'ignore', 'inherit'],
      detached: true, // a terminal's Ctrl-C is for the supervisor, which stops the parts in order
    },
  );
  alive.add(child);
  child.once('exit', () => {
    alive.delete(child);
    rmSync(socket, { force: true });
  });
  await untilListening(socket, child);
  return { child, socket, client: sidecarClient({ kind: 'unix', path: socket }) };
}

function slot({ child, client }: SidecarProcess): SidecarSlot {
  return {
    client,
    release() {
      client.close();
      void stop(child);
    },
  };
}

/** Its standard input's end tells it to go; a signal is for one that does not listen. */
function stop(child: ChildProcess): Promise<void> {
  if (!isRunning(child)) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    child.once('exit', () => {
      clearTimeout(timer);
      resolve();
    });
    child.stdin?.end();
  });
}

function isRunning({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}

async function untilListening(socket: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  let failed: Error | undefined;
  child.once('error', (error) => {
    failed = error;
  });
  while (!(await accepts({ kind: 'unix', path: socket }))) {
    if (failed || !isRunning(child) || Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new OutriderError('SIDECAR_LOST', 'the sidecar of the sandbox did not start', {
        cause: failed ?? new Error(`exit ${String(child.exitCode ?? child.signalCode)}`),
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
