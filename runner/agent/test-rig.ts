import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentLink, type StartOrder, type Waiting } from '../agent-link.ts';
import type { AgentEnd } from '../agent-reports.ts';
import type { Box } from '../backends/backend.ts';
import { createBubblewrapBackend } from '../backends/bubblewrap/backend.ts';
import { cgroupHost } from '../cgroup.ts';
import { createIdentities } from '../identities.ts';
import { waitingIn } from '../profiles.ts';

/** For tests alone: real bubblewrap boxes with the real agent in them, and the runner's end of it here. */

const MIB = 2 ** 20;
export const LIMITS = { memoryBytes: 768 * MIB, cpuMillis: 2_000, pids: 64, diskBytes: 16 * MIB };

export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  /** Undefined where the sandbox was lost; then `lost` says why. */
  readonly end: AgentEnd | undefined;
  readonly lost: string;
}

export interface Running {
  readonly id: number;
  readonly outcome: Promise<Outcome>;
  /** Resolves when stdout holds this. */
  readonly wrote: (text: string) => Promise<void>;
}

export interface LiveBox {
  readonly box: Box;
  readonly link: AgentLink;
  readonly hostUid: number;
  /** Takes the place of the sidecar's door; what connects is given to `connection` listeners. */
  readonly egress: Server;
  readonly start: (order: Partial<StartOrder>) => Running;
  readonly run: (order: Partial<StartOrder>) => Promise<Outcome>;
}

/** Makes boxes with uids from `firstUid` on, 64 of them; `close` ends all. */
export function createBoxes(firstUid: number) {
  const shared = mkdtempSync(join(tmpdir(), 'o-'));
  chmodSync(shared, 0o711);
  const identities = createIdentities(firstUid, 64);
  const cgroups = cgroupHost(shared);
  const backend = createBubblewrapBackend({ sharedDirectory: shared, cgroups, command: 'bwrap' });
  const boxes: Box[] = [];
  const servers: Server[] = [];
  let count = 0;

  /** A box whose agent has connected; `ready` says whether to wait for its interpreter. */
  async function open(waiting: Waiting, ready = true): Promise<LiveBox> {
    const directory = join(shared, `box-${++count}`);
    mkdirSync(directory, { mode: 0o755 });
    const [control, egress] = [createServer(), createServer()];
    servers.push(egress);
    const connection = new Promise<Socket>((resolve) => control.once('connection', resolve));
    await listen(control, join(directory, 'control'));
    await listen(egress, join(directory, 'egress'));
    const identity = identities.take();
    const box = await backend.start({
      sandboxId: `agent-${process.pid}-${count}`,
      socketDirectory: directory,
      identity,
      limits: LIMITS,
      image: '',
    });
    boxes.push(box);
    const link = new AgentLink(await connection, waiting);
    control.close();
    if (ready) await link.ready();
    const start = (order: Partial<StartOrder>) => begin(link, ++count, waiting, order);
    return {
      box,
      link,
      hostUid: identity.uid,
      egress,
      start,
      run: (order) => start(order).outcome,
    };
  }

  return {
    open,
    profile: (name: string) => open(waitingIn(name)),
    async close(): Promise<void> {
      await Promise.all(boxes.map((box) => box.kill()));
      for (const server of servers) server.close();
      await cgroups?.close();
      rmSync(shared, { recursive: true, force: true });
    },
  };
}

function begin(link: AgentLink, id: number, waiting: Waiting, order: Partial<StartOrder>): Running {
  const text = { stdout: '', stderr: '' };
  const listeners = new Set<() => void>();
  const outcome = new Promise<Outcome>((resolve) => {
    link.start(
      id,
      { env: waiting.env, cwd: '/workspace', stdin: false, rlimits: {}, ...order },
      {
        output(stream, data) {
          text[stream] += data.toString('utf8');
          link.credit(id, data.length);
          for (const listener of listeners) listener();
        },
        skipped(stream, bytes) {
          text[stream] += `[${bytes} skipped]`;
        },
        end: (end) => resolve({ ...text, end, lost: '' }),
        lost: (message) => resolve({ ...text, end: undefined, lost: message }),
      },
    );
  });
  const wrote = (wanted: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = () => {
        if (text.stdout.includes(wanted)) resolve();
      };
      listeners.add(look);
      look();
      void outcome.then(() => reject(new Error(`it ended without: ${text.stdout}${text.stderr}`)));
    });
  return { id, outcome, wrote };
}

async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve) => server.listen(path, resolve));
  chmodSync(path, 0o666);
}

/** Whether this host gives every box a user of its own, so that its processes can be counted from outside. */
export const ownUids = process.getuid?.() === 0;

/** The names of a user's processes, as the host sees them. */
export function processesOf(uid: number): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    try {
      const status = /^\d+$/.test(pid) ? readFileSync(`/proc/${pid}/status`, 'utf8') : '';
      const mine = new RegExp(`^Uid:\\s+${uid}\\b`, 'm').test(status);
      return mine && !/^State:\s+Z/m.test(status)
        ? [/^Name:\s+(.*)$/m.exec(status)?.[1] ?? '']
        : [];
    } catch {
      return []; // gone meanwhile
    }
  });
}

/** Whether this host's python3 has these modules. */
export function hasModules(...names: readonly string[]): boolean {
  return spawnSync('/usr/bin/python3', ['-c', `import ${names.join(', ')}`]).status === 0;
}
