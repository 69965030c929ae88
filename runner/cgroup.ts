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
import { join } from 'node:path';
import type { ResourceLimits } from './backends/backend.ts';

/** The period of the cpu controller's quota, in microseconds. */
const PERIOD_US = 100_000;

/** The control group of one box. */
export interface Cgroup {
  readonly mechanism: 'cgroup-v1' | 'cgroup-v2';
  /** Puts a process, and what it will fork, under the limits. */
  add(pid: number): void;
  oomKills(): number;
  /** Removes it; call when no process is left. Safe to call twice. */
  remove(): void;
}

/** Where boxes get their control groups on this host. */
export interface CgroupHost {
  create(id: string, limits: ResourceLimits): Cgroup;
  /** Removes groups that a runner which is no more left behind, where they are empty. */
  sweep(): void;
  /** Removes the runner's own group, where nothing is left in it. */
  close(): void;
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
    const wanted = ['memory', 'pids', 'cpu'].filter((name) => controllers.includes(name));
    const enable = wanted.map((name) => `+${name}`).join(' ');
    writeFileSync(join(root, 'cgroup.subtree_control'), enable);
    mkdirSync(base, { recursive: true });
    writeFileSync(join(base, 'cgroup.subtree_control'), enable);
    accessSync(base, constants.W_OK);
  } catch {
    return undefined;
  }
  return {
    sweep: () => sweep(base),
    close: () => remove(base),
    create(id, limits) {
      const path = join(base, id);
      mkdirSync(path);
      write(join(path, 'memory.max'), limits.memoryBytes);
      write(join(path, 'memory.swap.max'), 0);
      write(join(path, 'pids.max'), limits.pids);
      write(join(path, 'cpu.max'), `${limits.cpuMillis * (PERIOD_US / 1000)} ${PERIOD_US}`);
      return {
        mechanism: 'cgroup-v2',
        add: (pid) => writeFileSync(join(path, 'cgroup.procs'), String(pid)),
        oomKills: () => counter(join(path, 'memory.events'), 'oom_kill'),
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
    sweep: () => all.forEach(sweep),
    close: () => all.forEach(remove),
    create(id, limits) {
      const paths = all.map((base) => join(base, id));
      for (const path of paths) mkdirSync(path);
      write(join(bases.memory, id, 'memory.limit_in_bytes'), limits.memoryBytes);
      write(join(bases.memory, id, 'memory.memsw.limit_in_bytes'), limits.memoryBytes);
      write(join(bases.pids, id, 'pids.max'), limits.pids);
      write(join(bases.cpu, id, 'cpu.cfs_period_us'), PERIOD_US);
      write(join(bases.cpu, id, 'cpu.cfs_quota_us'), limits.cpuMillis * (PERIOD_US / 1000));
      return {
        mechanism: 'cgroup-v1',
        add: (pid) => {
          for (const path of paths) writeFileSync(join(path, 'cgroup.procs'), String(pid));
        },
        oomKills: () => counter(join(bases.memory, id, 'memory.oom_control'), 'oom_kill'),
        remove: () => paths.forEach(remove),
      };
    },
  };
}

/** A limit that this kernel does not have (swap accounting, cpu quota) is left out; memory and pids are checked by tests. */
function write(path: string, value: number | string): void {
  if (existsSync(path)) writeFileSync(path, String(value));
}

function remove(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Gone already, or a process is left: `sweep` tries again at the next start.
  }
}

function sweep(base: string): void {
  if (!existsSync(base)) return;
  for (const entry of readdirSync(base, { withFileTypes: true }))
    if (entry.isDirectory()) remove(join(base, entry.name));
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
