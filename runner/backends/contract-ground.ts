import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { AgentLink } from '../agent-link.ts';
import type { AgentEnd } from '../agent-reports.ts';
import { cgroupHost } from '../cgroup.ts';
import { createIdentities } from '../identities.ts';
import type { Backend, BackendName, Box } from './backend.ts';
import { createBubblewrapBackend } from './bubblewrap/backend.ts';
import { createDockerBackend } from './docker/backend.ts';
import { Engine } from './docker/engine.ts';

/** For tests alone: real boxes of a backend, and programs in them. */

const MIB = 2 ** 20;
export const LIMITS = { memoryBytes: 320 * MIB, cpuMillis: 1000, pids: 40, diskBytes: 8 * MIB };
/** A range for each test process. */
export const FIRST_UID = 1_950_000_000 + (process.pid % 10_000) * 200;

export interface Ground {
  readonly backend: Backend;
  /** A box with its agent connected and rehearsed; no sidecar. */
  readonly live: (profile?: string) => Promise<Live>;
  /** Whether limits are kept, and hits counted, by control groups: a host may give none for bubblewrap. */
  readonly counted: boolean;
  readonly close: () => Promise<void>;
}

export interface Live {
  readonly box: Box;
  readonly link: AgentLink;
  /** What the host has of its sockets. */
  readonly directory: string;
}

/** A backend of its own for one file of tests, in a directory of its own. */
export function groundOf(name: BackendName): Ground {
  const directory = mkdtempSync(join(tmpdir(), 'o-'));
  chmodSync(directory, 0o711);
  const identities = createIdentities(FIRST_UID, 200);
  const cgroups = name === 'bubblewrap' ? cgroupHost(directory) : undefined;
  const engine = new Engine('/var/run/docker.sock', `contract-${name}-${process.pid}`);
  const shared = { sharedDirectory: directory };
  const backend =
    name === 'bubblewrap'
      ? createBubblewrapBackend({ ...shared, cgroups, command: 'bwrap' })
      : createDockerBackend({
          ...shared,
          name,
          engine,
          runtime: name === 'gvisor' ? 'runsc' : undefined,
          images: ['outrider-sandbox:latest'],
        });
  let count = 0;
  return {
    backend,
    counted: name !== 'bubblewrap' || cgroups !== undefined,
    async live(profile = 'python') {
      const identity = identities.take();
      const own = join(directory, `test-${process.pid}-${++count}`);
      mkdirSync(own, { mode: 0o700 });
      chownSync(own, process.getuid?.() ?? 0, identity.gid);
      chmodSync(own, 0o2750);
      const server = createServer();
      const connection = new Promise<Socket>((resolve) => server.once('connection', resolve));
      const path = join(own, 'control');
      await new Promise<void>((resolve) => server.listen(path, resolve));
      chmodSync(path, 0o660);
      const ask = { sandboxId: basename(own), limits: LIMITS, image: '' };
      const box = await backend.start({ ...ask, socketDirectory: own, identity });
      const gone = box.ended.then(() => assert.fail(`the box ended: ${box.diagnostics()}`));
      gone.catch(() => {});
      const link = new AgentLink(await Promise.race([connection, gone]), { profile, env: {} });
      server.close();
      await link.ready();
      box.settle();
      return { box, link, directory: own };
    },
    async close() {
      engine.close();
      await cgroups?.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  /** Undefined where the box was lost. */
  readonly end: AgentEnd | undefined;
}

let execs = 0;

/** Runs a program to its end; everything that it writes is taken at once. */
export function run(
  { box, link }: Live,
  code: string,
  options: { stdin?: string; argv?: string[]; onOutput?: () => void } = {},
): Promise<Outcome> {
  const text = { stdout: '', stderr: '' };
  const id = ++execs;
  return new Promise((resolve) => {
    const order = {
      ...(options.argv ? { argv: options.argv } : { code }),
      env: { PATH: '/opt/node/bin:/usr/bin:/bin', HOME: '/workspace' },
      cwd: '/workspace',
      stdin: options.stdin !== undefined,
      rlimits: box.rlimits,
    };
    link.start(id, order, {
      output(stream, data) {
        text[stream] += data.toString('utf8');
        link.credit(id, data.length);
        options.onOutput?.();
      },
      skipped() {},
      end: (end) => resolve({ ...text, end }),
      lost: () => resolve({ ...text, end: undefined }),
    });
    if (options.stdin !== undefined)
      void link.stdin(id, Buffer.from(options.stdin)).then(() => link.closeStdin(id));
  });
}

/** What the host has of a box: processes of its user or, where several boxes have the same, those that name its directory, and containers. */
export function leftOf({ box, directory }: Live): number {
  const own = box.attestation.hostUid >= FIRST_UID;
  const by = own ? ['-u', String(box.attestation.hostUid)] : ['-f', directory];
  const processes = spawnSync('pgrep', ['-c', ...by], { encoding: 'utf8' }).stdout;
  if (box.attestation.backend === 'bubblewrap') return Number(processes);
  const label = `label=outrider.sandbox=${basename(directory)}`;
  const containers = spawnSync('docker', ['ps', '-aq', '--filter', label], { encoding: 'utf8' });
  return (own ? Number(processes) : 0) + containers.stdout.split('\n').filter(Boolean).length;
}
