import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ground } from './ground.ts';
import { sourceOf } from './source.ts';
import {
  type Artefact,
  DEFAULT_TIMEOUT_MS,
  type Layout,
  type Mortal,
  type Program,
  type Room,
  type Run,
  type Target,
} from './target.ts';

/** How long after its time-out a program is left alone before it is ended from here. */
const BOUND_MS = 1_500;
/** What a careless collector takes of one file. */
const COLLECTED_MAX = 4 * 2 ** 20;

export interface WeakOptions {
  readonly name?: string;
  /** The words before the interpreter: nothing for a plain process. */
  readonly before?: readonly string[];
  /** Runs as this user; as root only. */
  readonly uid?: number;
  /** What a passed time-out does. Default: nothing. */
  readonly onTimeout?: 'nothing' | 'term' | 'kill';
  /** Given as descriptor 9. */
  readonly leak?: number;
  /** Leaves stdin open and silent. */
  readonly openStdin?: boolean;
  /** Stands before the program's text. */
  readonly preface?: string;
  /** Paths as the programs see them. Default: the ground's own. */
  readonly layout?: Layout;
  readonly cleanUp?: () => void;
}

/**
 * Programs without a sandbox: plain child processes, or whatever `before` puts around them. Output is kept whole, files are
 * followed wherever they lead, ends are taken as they come: everything that a runner must not do.
 */
export function weakTarget(ground: Ground, options: WeakOptions = {}): Target {
  const places = placesOf(ground, options.uid);
  const layout = options.layout ?? { root: join(ground.directory, 'root'), places };
  const children = new Set<ChildProcess>();
  const run = (program: Program) => runProcess(ground, layout, options, program, children);
  const visit = (id: string): Room => ({
    id,
    run,
    read: (path) => Promise.resolve().then(() => readFileSync(join(places.workspace, path))),
    write: (path, content) =>
      Promise.resolve().then(() => writeFileSync(join(places.workspace, path), content)),
    close: () => Promise.resolve(),
  });
  const target: Target = {
    name: options.name ?? 'control',
    ownKernel: false,
    layout,
    run,
    open: () => Promise.resolve(visit(ground.nonce)),
    visit,
    mortal: () => Promise.resolve(mortalOf(target, children)),
  };
  return target;
}

/** What stands for the runner here is the direct child. */
function mortalOf(target: Target, children: ReadonlySet<ChildProcess>): Mortal {
  return {
    target,
    kill: async () => {
      for (const child of children) {
        const over = once(child, 'exit');
        child.kill('SIGKILL');
        await over;
      }
    },
    end: () => Promise.resolve(),
  };
}

function placesOf(ground: Ground, uid?: number): Layout['places'] {
  const place = (name: string): string => {
    const path = join(ground.directory, name);
    mkdirSync(path, { recursive: true, mode: uid === undefined ? 0o755 : 0o777 });
    return path;
  };
  for (const name of [
    'root',
    'root/etc',
    'root/usr/bin',
    'root/run/agent',
    'root/run/outrider',
    'root/dev',
  ])
    place(name);
  writeFileSync(join(ground.directory, 'root/run/agent/agent.py'), '# an agent\n');
  writeFileSync(join(ground.directory, 'root/etc/passwd'), 'root:x:0:0::/:\n');
  writeFileSync(join(ground.directory, 'root/usr/bin/python3'), '#!/bin/sh\n', { mode: 0o755 });
  writeFileSync(join(ground.directory, 'root/dev/null'), '');
  return {
    tmp: place('tmp'),
    workspace: place('workspace'),
    output: place('output'),
    shm: place('shm'),
  };
}

async function runProcess(
  ground: Ground,
  layout: Layout,
  options: WeakOptions,
  program: Program,
  children: Set<ChildProcess>,
): Promise<Run> {
  const { before = [], uid, preface = '', leak } = options;
  writeFiles(layout.places.workspace, program.files ?? {});
  const source = `${preface}${sourceOf(program, layout)}`;
  const [command, ...argv] = [...before, '/usr/bin/python3', '-c', source];
  const startedAt = performance.now();
  const child = spawn(command, argv, {
    cwd: layout.places.workspace.startsWith(ground.directory) ? layout.places.workspace : '/',
    stdio: [
      'pipe',
      'pipe',
      'pipe',
      ...(leak === undefined ? [] : [...Array(6).fill('ignore'), leak]),
    ],
    detached: true,
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  child.on('error', () => {}); // its streams end, with nothing said
  child.stdin?.on('error', () => {});
  if (!options.openStdin) child.stdin?.end(program.stdin ?? '');
  const kept = keep(child, program.onStdout);
  const aborted = new Promise<'disconnect'>((resolve) => {
    const abort = () => {
      child.kill('SIGKILL');
      resolve('disconnect');
    };
    if (program.signal?.aborted) abort();
    program.signal?.addEventListener('abort', abort, { once: true });
  });
  const timeoutMs = program.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const killedBy = await Promise.race([aborted, untilEnd(child, options, timeoutMs)]);
  if (killedBy === 'bound' || killedBy === 'disconnect') letGo(child, options, killedBy);
  const signal = child.signalCode ?? '';
  return {
    ...kept(),
    killedBy: killedBy ?? (signal ? 'signal' : 'exit'),
    signal,
    exitCode: child.exitCode ?? undefined,
    wallMs: performance.now() - startedAt,
    artefacts: collect(layout.places.output),
  };
}

/** Waits for the end of the process and of its output. `bound` where it went on for too long after its time. */
async function untilEnd(
  child: ChildProcess,
  { onTimeout = 'nothing' }: WeakOptions,
  timeoutMs: number,
): Promise<string | undefined> {
  const abort = new AbortController();
  let late: string | undefined;
  const over = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const failed = new Promise<void>((resolve) => child.once('error', () => resolve()));
  const bound = sleep(timeoutMs, undefined, { signal: abort.signal })
    .then(() => {
      late = onTimeout === 'nothing' ? undefined : 'timeout';
      if (onTimeout !== 'nothing') child.kill(onTimeout === 'kill' ? 'SIGKILL' : 'SIGTERM');
      return sleep(BOUND_MS, undefined, { signal: abort.signal });
    })
    .then(() => 'bound')
    .catch(() => undefined);
  const end = await Promise.race([over, failed, bound]);
  abort.abort();
  return end ?? late;
}

/** Only a program that went on for too long is ended with its group: what outlives a lost client is what is looked for. */
function letGo(child: ChildProcess, options: WeakOptions, why: 'bound' | 'disconnect'): void {
  try {
    if (why === 'bound' && child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // it has ended by itself
  }
  options.cleanUp?.();
  child.stdout?.destroy();
  child.stderr?.destroy();
}

function keep(child: ChildProcess, onStdout?: (text: string) => void) {
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  child.stdout?.on('data', (chunk: Buffer) => {
    chunks.stdout.push(chunk);
    onStdout?.(chunk.toString('utf8'));
  });
  child.stderr?.on('data', (chunk: Buffer) => void chunks.stderr.push(chunk));
  return () => {
    const [stdout, stderr] = [Buffer.concat(chunks.stdout), Buffer.concat(chunks.stderr)];
    return { stdout, stderr, total: { stdout: stdout.length, stderr: stderr.length } };
  };
}

function writeFiles(directory: string, files: Readonly<Record<string, string>>): void {
  for (const [path, content] of Object.entries(files)) {
    const to = path.startsWith('/') ? path : join(directory, path);
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(to, content);
  }
}

/** As a careless collector does it: follows every link, and takes what it finds. */
function collect(directory: string): Artefact[] {
  return readdirSync(directory).flatMap((path) => {
    try {
      const { size } = statSync(join(directory, path));
      if (!statSync(join(directory, path)).isFile()) return [];
      const content = size > COLLECTED_MAX ? Buffer.alloc(COLLECTED_MAX) : undefined;
      return [{ path, size, content: content ?? readFileSync(join(directory, path)) }];
    } catch {
      return [];
    }
  });
}
