import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BoxCounters, ResourceLimits } from './backends/backend.ts';

/** The period of the cpu controller's quota, in microseconds. */
const PERIOD_US = 100_000;
/** Of the processors, beside others who want them: a box in the making has a tenth of one that is used, as at nice 10. */
const SHARES = { v1: { making: 102, used: 1_024 }, v2: { making: 10, used: 100 } } as const;

/** The control group of one box. */
export interface Cgroup {
  readonly mechanism: 'cgroup-v1' | 'cgroup-v2';
  /** Whether this kernel limits processor time, too; memory and processes are always limited. */
  readonly limitsCpu: boolean;
  /** Puts a process, and what it will fork, under the limits. The kernel takes its milliseconds for that. */
  add(pid: number): Promise<void>;
  /** Gives it as much of the processors as any other group of its kind has; from its making to here it has a tenth of that. */
  settle(): void;
  oomKills(): number;
  /** Forks that failed because the group had as many processes as it may. */
  pidsRefused(): number;
  /** Removes it; call when no process is left. Safe to call twice. */
  remove(): void;
}

/** Where boxes get their control groups on this host. */
export interface CgroupHost {
  create(id: string, limits: ResourceLimits): Cgroup;
  /** Removes groups that a runner which is no more left behind, and ends first what is left in them, for 5 s at most. */
  sweep(): Promise<void>;
  /** Removes the runner's own group, and waits 2 s at most for what is still ending in it. */
  close(): Promise<void>;
}

/**
 * The control groups that this process may make, or undefined where the host gives none: an ordinary user without
 * delegation. Version 2 where memory and pids are there, otherwise version 1. `owner` tells runners of one machine apart, so
 * that none sweeps away another's: everything is made in a group named after it.
 */
export function cgroupHost(owner: string, root = '/sys/fs/cgroup'): CgroupHost | undefined {
  const name = `outrider-${createHash('sha256').update(owner).digest('hex').slice(0, 12)}`;
  return version2(root, name) ?? version2(join(root, 'unified'), name) ?? version1(root, name);
}

function version2(root: string, name: string): CgroupHost | undefined {
  const base = join(root, name);
  try {
    const controllers = read(join(root, 'cgroup.controllers')).split(/\s+/);
    if (!controllers.includes('memory') || !controllers.includes('pids')) return undefined;
    const wanted = ['memory', 'pids', 'cpu'].filter((wish) => controllers.includes(wish));
    const enable = wanted.map((controller) => `+${controller}`).join(' ');
    writeFileSync(join(root, 'cgroup.subtree_control'), enable);
    mkdirSync(base, { recursive: true });
    writeFileSync(join(base, 'cgroup.subtree_control'), enable);
    accessSync(base, constants.W_OK);
  } catch {
    return undefined;
  }
  return {
    sweep: () => endAndSweep([base]),
    close: () => close([base]),
    create(id, limits) {
      const path = join(base, id);
      mkdirSync(path);
      const quota = `${limits.cpuMillis * (PERIOD_US / 1000)} ${PERIOD_US}`;
      const limitsCpu = madeOrRemoved([path], () => {
        writeFileSync(join(path, 'memory.max'), String(limits.memoryBytes));
        writeWhereThere(join(path, 'memory.swap.max'), 0);
        writeFileSync(join(path, 'pids.max'), String(limits.pids));
        writeWhereThere(join(path, 'cpu.weight'), SHARES.v2.making);
        return writeWhereThere(join(path, 'cpu.max'), quota);
      });
      return {
        mechanism: 'cgroup-v2',
        limitsCpu,
        add: (pid) => writeFile(join(path, 'cgroup.procs'), String(pid)),
        settle: () => void writeWhereThere(join(path, 'cpu.weight'), SHARES.v2.used),
        oomKills: () => counter(join(path, 'memory.events'), 'oom_kill'),
        pidsRefused: () => counter(join(path, 'pids.events'), 'max'),
        remove: () => remove(path),
      };
    },
  };
}

function version1(root: string, name: string): CgroupHost | undefined {
  const bases = {
    memory: join(root, 'memory', name),
    pids: join(root, 'pids', name),
    cpu: join(root, 'cpu', name),
  };
  try {
    for (const [controller, base] of Object.entries(bases)) {
      if (!existsSync(join(root, controller, 'tasks')))
        throw new Error(`no ${controller} controller`);
      mkdirSync(base, { recursive: true });
      accessSync(base, constants.W_OK);
    }
  } catch {
    return undefined;
  }
  const all = Object.values(bases);
  return {
    sweep: () => endAndSweep(all),
    close: () => close(all),
    create(id, limits) {
      const paths = all.map((base) => join(base, id));
      for (const path of paths) mkdirSync(path);
      const limitsCpu = madeOrRemoved(paths, () => {
        const { memoryBytes, pids, cpuMillis } = limits;
        writeFileSync(join(bases.memory, id, 'memory.limit_in_bytes'), String(memoryBytes));
        writeWhereThere(join(bases.memory, id, 'memory.memsw.limit_in_bytes'), memoryBytes);
        writeFileSync(join(bases.pids, id, 'pids.max'), String(pids));
        writeWhereThere(join(bases.cpu, id, 'cpu.shares'), SHARES.v1.making);
        writeWhereThere(join(bases.cpu, id, 'cpu.cfs_period_us'), PERIOD_US);
        const quota = cpuMillis * (PERIOD_US / 1000);
        return writeWhereThere(join(bases.cpu, id, 'cpu.cfs_quota_us'), quota);
      });
      return {
        mechanism: 'cgroup-v1',
        limitsCpu,
        add: async (pid) => {
          await Promise.all(
            paths.map((path) => writeFile(join(path, 'cgroup.procs'), String(pid))),
          );
        },
        settle: () => void writeWhereThere(join(bases.cpu, id, 'cpu.shares'), SHARES.v1.used),
        oomKills: () => counter(join(bases.memory, id, 'memory.oom_control'), 'oom_kill'),
        pidsRefused: () => counter(join(bases.pids, id, 'pids.events'), 'max'),
        remove: () => paths.forEach(remove),
      };
    },
  };
}

/** The control groups that somebody else, an engine, made for a process. */
export interface ForeignCgroup {
  readonly mechanism: 'cgroup-v1' | 'cgroup-v2';
  readonly memoryBytes: number;
  /** Thousandths of a core; Infinity where it is not limited. */
  readonly cpuMillis: number;
  readonly pids: number;
  /** Zeros once the groups are gone. */
  counters(): BoxCounters;
}

/** Reads the groups of a process; undefined where they are not to be seen from here, as from within another container. */
export function cgroupOf(
  pid: number,
  root = '/sys/fs/cgroup',
  proc = '/proc',
): ForeignCgroup | undefined {
  const lines = read(join(proc, String(pid), 'cgroup')).split('\n');
  const pathOf = (controller: string): string | undefined =>
    lines.find((line) => line.split(':')[1]?.split(',').includes(controller))?.split(':')[2];
  const [memory, pids, cpu] = ['memory', 'pids', 'cpu'].map(pathOf);
  try {
    if (memory !== undefined && pids !== undefined && cpu !== undefined)
      return foreign1(
        join(root, 'memory', memory),
        join(root, 'pids', pids),
        join(root, 'cpu', cpu),
      );
    const unified = pathOf('');
    return unified === undefined ? undefined : foreign2(join(root, unified));
  } catch {
    return undefined;
  }
}

function foreign1(memory: string, pids: string, cpu: string): ForeignCgroup {
  const quota = limitIn(join(cpu, 'cpu.cfs_quota_us'));
  return {
    mechanism: 'cgroup-v1',
    memoryBytes: limitIn(join(memory, 'memory.limit_in_bytes')),
    cpuMillis: (quota * 1000) / limitIn(join(cpu, 'cpu.cfs_period_us')),
    pids: limitIn(join(pids, 'pids.max')),
    counters: () => ({
      oomKills: counter(join(memory, 'memory.oom_control'), 'oom_kill'),
      pidsRefused: counter(join(pids, 'pids.events'), 'max'),
    }),
  };
}

function foreign2(path: string): ForeignCgroup {
  const [quota = 'max', period = '1'] = read(join(path, 'cpu.max')).split(' ');
  return {
    mechanism: 'cgroup-v2',
    memoryBytes: limitIn(join(path, 'memory.max')),
    cpuMillis: quota === 'max' ? Infinity : (Number(quota) * 1000) / Number(period),
    pids: limitIn(join(path, 'pids.max')),
    counters: () => ({
      oomKills: counter(join(path, 'memory.events'), 'oom_kill'),
      pidsRefused: counter(join(path, 'pids.events'), 'max'),
    }),
  };
}

/** A limit as the kernel writes it: `max` and -1 are none. */
function limitIn(path: string): number {
  const text = read(path);
  return text === 'max' || text === '-1' ? Infinity : Number(text);
}

/** Sets the limits of new groups; where one cannot be set, nothing is left of them. */
function madeOrRemoved<T>(paths: readonly string[], set: () => T): T {
  try {
    return set();
  } catch (error) {
    paths.forEach(remove);
    throw error;
  }
}

/** A limit that not every kernel has: swap accounting, cpu quota. Returns whether this one has it. */
function writeWhereThere(path: string, value: number | string): boolean {
  const there = existsSync(path);
  if (there) writeFileSync(path, String(value));
  return there;
}

function remove(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Gone already, or a process is left: `sweep` tries again at the next start.
  }
}

const GONE_WITHIN_MS = 5_000;
const CLOSED_WITHIN_MS = 2_000;
const LOOK_EVERY_MS = 5;

/** A group is busy for a moment after its last process, and so is the one around it. */
async function close(bases: readonly string[]): Promise<void> {
  const deadline = Date.now() + CLOSED_WITHIN_MS;
  for (;;) {
    bases.forEach(sweep);
    bases.forEach(remove);
    if (!bases.some((base) => existsSync(base)) || Date.now() >= deadline) return;
    await sleep(LOOK_EVERY_MS);
  }
}

/** Nobody else's processes are in groups of that name: whose launcher is dead, they have nothing left to do. */
async function endAndSweep(bases: readonly string[]): Promise<void> {
  const deadline = Date.now() + GONE_WITHIN_MS;
  bases.forEach(sweep);
  const killLeft = () => bases.flatMap(groupsIn).flatMap(processesIn).filter(isKilled);
  if (killLeft().length === 0) return;
  do {
    await sleep(LOOK_EVERY_MS);
    killLeft();
    bases.forEach(sweep);
  } while (bases.flatMap(groupsIn).length > 0 && Date.now() < deadline);
}

function processesIn(group: string): number[] {
  try {
    return read(join(group, 'cgroup.procs')).split('\n').map(Number).filter(Boolean);
  } catch {
    return []; // it is gone, and with it the last process
  }
}

/** Whether it was there to be killed. */
function isKilled(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch {
    return false;
  }
}

function groupsIn(base: string): string[] {
  if (!existsSync(base)) return [];
  return readdirSync(base, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(base, name));
}

function sweep(base: string): void {
  groupsIn(base).forEach(remove);
}

function counter(path: string, name: string): number {
  try {
    const line = read(path)
      .split('\n')
      .find((candidate) => candidate.startsWith(`${name} `));
    return Number(line?.split(' ')[1] ?? 0);
  } catch {
    return 0;
  }
}

function read(path: string): string {
  return readFileSync(path, 'utf8').trim();
}
