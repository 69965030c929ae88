import { setTimeout as sleep } from 'node:timers/promises';
import { type Attack, endText, escaped, program, refused } from '../attack.ts';
import { residentBytes } from '../host.ts';
import type { Program, Run } from '../target.ts';
import { onHost } from './controls.ts';

/** How programs end, and what they write: the runner's account of both must be exact and bounded. */

const MIB = 2 ** 20;
const FLOOD = 192 * MIB;
/** Half a flood: far above what a runner needs, far below what one that keeps everything would. */
const GROWN_MAX = 96 * MIB;
const KEPT = MIB;

const ZOMBIES = `
for _ in range(100):
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
deadline = time.time() + 2
while True:
    found = 0
    for name in os.listdir("/proc"):
        try:
            found += name.isdigit() and ") Z " in open(f"/proc/{name}/stat").read()
        except OSError:
            pass
    if found == 0 or time.time() > deadline:
        break
    time.sleep(0.05)
escaped(f"{found} zombies") if found else refused("all were reaped")`;

export const programs: readonly Attack[] = [
  {
    id: 10,
    group: 'resources',
    name: 'a file of 8 TiB that is all holes, left as an artefact',
    attempt: async (target, ground) => {
      const code = `
fd = os.open(P["places"]["output"] + "/huge", os.O_CREAT | os.O_RDWR)
try:
    os.ftruncate(fd, 8 << 40)
except OSError as error:
    refused(errno.errorcode[error.errno])
refused("made")`;
      const { artefacts, killedBy } = await target.run({ code, params: ground.params });
      const taken = artefacts.reduce((sum, { content }) => sum + content.length, 0);
      if (taken > 2 * MIB) return escaped(`${taken} bytes of it were taken`);
      return killedBy === 'exit'
        ? refused(`${taken} bytes of it were taken`)
        : escaped(`it ended by ${killedBy}`);
    },
    control: onHost('a collector that reads whatever there is'),
  },
  {
    id: 11,
    group: 'resources',
    name: 'flood of output',
    attempt: async (target, ground) => {
      const before = residentBytes(ground.rig?.runnerPid ?? 0);
      const run = await target.run({
        code: `
block = b"x" * 65536
for _ in range(${FLOOD / 65536}):
    os.write(1, block)`,
        params: ground.params,
        outputBytes: KEPT,
      });
      const grown = residentBytes(ground.rig?.runnerPid ?? 0) - before;
      if (grown > GROWN_MAX) return escaped(`the runner grew by ${grown} bytes`);
      return accounted(run, { stdout: FLOOD, stderr: 0 });
    },
    control: onHost('output is kept as it comes'),
  },
  {
    id: 12,
    group: 'resources',
    name: 'stderr in one line of 24 MiB, with NULs and halves of characters',
    attempt: async (target, ground) => {
      const code = `
block = (b"\\x00\\xff\\xc3" * 30000)[:65536]
for _ in range(${(24 * MIB) / 65536}):
    os.write(2, block)`;
      const run = await target.run({ code, params: ground.params, outputBytes: KEPT });
      return accounted(run, { stdout: 0, stderr: 24 * MIB });
    },
    control: onHost('output is kept as it comes'),
  },
  {
    id: 14,
    group: 'resources',
    name: 'spin for ever',
    attempt: timeout('while True: pass'),
    control: onHost('no time-out'),
  },
  {
    id: 15,
    group: 'resources',
    name: 'ignore every signal and go on after the time-out',
    attempt: timeout(`
for number in signal.Signals:
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    time.sleep(1)`),
    control: onHost('a time-out that asks politely', { onTimeout: 'term' }),
  },
  {
    id: 16,
    group: 'resources',
    name: 'a daemon that keeps stdout open',
    attempt: async (target, ground) => {
      const code = `
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        linger(20)
    os._exit(0)
os.wait()
refused()`;
      const run = await target.run({ code, params: ground.params, timeoutMs: 2_500 });
      const left = await ground.survivors();
      if (run.killedBy !== 'exit') return escaped(`the stream went on: ${endText(run)}`);
      return left === 0 ? refused('the stream ended with it') : escaped('the daemon outlived it');
    },
    control: onHost('whoever holds the pipe keeps it open'),
  },
  {
    id: 17,
    group: 'resources',
    name: 'outlive a runner that is killed',
    attempt: async (target, ground) => {
      const mortal = await target.mortal?.();
      if (!mortal) return escaped('it cannot be killed');
      try {
        let going: Promise<unknown> = Promise.resolve();
        await new Promise<void>((resolve, reject) => {
          const params = ground.params;
          going = mortal.target.run({ code: DAEMON, params, onStdout: () => resolve() });
          going.catch(reject);
        });
        await mortal.kill();
        const left = await ground.survivors(3_000);
        await Promise.race([going.catch(() => {}), sleep(1_000)]);
        return left === 0
          ? refused('everything ended with it')
          : escaped(`${left} processes go on`);
      } finally {
        await mortal.end();
      }
    },
    control: onHost('a child process of a process that is killed', {
      before: ['/bin/sh', '-c', '"$@" & wait', 'sh'],
    }),
    unfit: (target) =>
      target.mortal === undefined ? 'this runner is not ours to kill' : undefined,
  },
  {
    id: 18,
    group: 'resources',
    name: 'leave zombies behind',
    attempt: program(ZOMBIES),
    control: onHost('a first process that reaps nothing', {
      before: [
        ['bwrap', '--dev-bind', '/', '/', '--unshare-pid', '--as-pid-1'],
        ['--proc', '/proc', '--die-with-parent', '--'],
      ].flat(),
    }),
  },
  {
    id: 19,
    group: 'resources',
    name: 'wait for input that nobody gives',
    attempt: async (target, ground) => {
      const code = 'data = os.read(0, 10)\nrefused(f"{len(data)} bytes")';
      const run = await target.run({ code, params: ground.params, timeoutMs: 1_500 });
      return run.killedBy === 'exit'
        ? refused('end of file at once')
        : escaped(`it waited: ${endText(run)}`);
    },
    control: onHost('stdin is open', { openStdin: true }),
  },
  {
    id: 20,
    group: 'resources',
    name: 'end by a signal that is told as something else',
    attempt: async (target, ground) => {
      for (const name of ['SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGXCPU']) {
        const code = `os.kill(os.getpid(), signal.${name})\ntime.sleep(5)`;
        const { killedBy, signal } = await target.run({ code, params: ground.params });
        if (killedBy !== 'signal' || signal !== name)
          return escaped(`${name} was told as ${killedBy} ${signal}`);
      }
      return refused('each was told by its name');
    },
    control: onHost('a shell that swallows the status', {
      before: ['/bin/sh', '-c', '"$@"; exit 0', 'sh'],
    }),
  },
];

/** Whether no more than was asked for was kept, and not a byte was counted wrongly. */
function accounted(run: Run, wrote: Run['total']) {
  for (const stream of ['stdout', 'stderr'] as const) {
    if (run.total[stream] !== wrote[stream])
      return escaped(`${run.total[stream]} bytes of ${stream} counted, ${wrote[stream]} written`);
    if (run[stream].length > KEPT + 1_024)
      return escaped(`${run[stream].length} bytes of ${stream} were kept`);
  }
  return refused('kept to the limit, counted exactly');
}

function timeout(code: string, options: Partial<Program> = {}): Attack['attempt'] {
  return async (target, ground) => {
    const startedAt = performance.now();
    const run = await target.run({ ...options, code, params: ground.params, timeoutMs: 1_000 });
    const ms = performance.now() - startedAt;
    const left = await ground.survivors();
    if (run.killedBy !== 'timeout' || left > 0) return escaped(`it goes on: ${endText(run)}`);
    return ms < 5_000 ? refused(`ended after ${ms.toFixed(0)} ms`) : escaped(`only after ${ms} ms`);
  };
}

const DAEMON = `
if os.fork() == 0:
    os.setsid()
    linger(30)
print("started", flush=True)
linger(30)`;
