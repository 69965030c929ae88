import { type Attack, escaped, findingOf, program, refused, unclear } from '../attack.ts';
import { RESOURCES } from '../target.ts';
import { onHost, onHostBounded } from './controls.ts';

/** What a program can take from its host: processes, memory, disk, descriptors. */

const MIB = 2 ** 20;
const { memoryBytes, diskBytes } = RESOURCES;
const beyondMemory = 1.5 * memoryBytes;

const THREAD_BOMB = `
threading.stack_size(64 << 10)
made = 0
try:
    while made < 300:
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
        made += 1
except RuntimeError as error:
    refused(f"{error} after {made}")
escaped(f"{made} threads")`;

export const resources: readonly Attack[] = [
  {
    id: 1,
    group: 'resources',
    name: 'fork bomb',
    attempt: async (target, ground) => {
      const finding = await program(FORK_BOMB, { ends: ['pids', 'oom', 'runner'] })(target, ground);
      const left = await ground.survivors();
      if (left > 0) return escaped(`${left} processes outlived it`);
      // gVisor counts processes itself, and tells nobody.
      const untold = finding.outcome === 'refused' && !finding.detail.includes('pids');
      return untold && !target.ownKernel && target.visit !== undefined
        ? unclear(`the limit was not told as such: ${finding.detail}`)
        : finding;
    },
    control: onHostBounded('no limit on processes'),
  },
  {
    id: 2,
    group: 'resources',
    name: 'shell bomb in a session of its own outlives its program',
    attempt: async (target, ground) => {
      await target.run({ code: SHELL_BOMB, params: ground.params });
      const left = await ground.survivors();
      return left === 0 ? refused('nothing outlived it') : escaped(`${left} processes outlived it`);
    },
    control: onHost('a plain child process'),
  },
  {
    id: 3,
    group: 'resources',
    name: 'thread bomb',
    attempt: program(THREAD_BOMB, { ends: ['pids', 'oom', 'runner'] }),
    control: onHostBounded('no limit on threads'),
  },
  {
    id: 4,
    group: 'resources',
    name: 'memory bomb',
    attempt: program(
      `
try:
    kept = [bytearray(b"\\xa5" * (4 << 20)) for _ in range(${beyondMemory / 4 / MIB})]
except MemoryError:
    refused("MemoryError")
escaped(f"{len(kept) * 4} MiB of memory")`,
      { ends: ['oom'] },
    ),
    control: onHost('no limit on memory'),
  },
  {
    id: 5,
    group: 'resources',
    name: 'memory of two processes, each below the limit',
    attempt: program(
      `
def hog():
    kept = bytearray(b"\\xa5" * ${Math.floor(0.6 * memoryBytes)})
    time.sleep(1.5)
    os._exit(0 if kept[-1] == 0xa5 else 1)
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        hog()
    children.append(pid)
ends = [os.waitpid(pid, 0)[1] for pid in children]
refused(f"ended with {ends}") if any(ends) else escaped("both kept their memory")`,
      { ends: ['oom'] },
    ),
    control: onHost('no limit on memory'),
  },
  disk(6, 'fill /tmp', 'tmp'),
  disk(7, 'fill /dev/shm', 'shm'),
  {
    id: 8,
    group: 'resources',
    name: 'memory in a file without a name',
    attempt: program(
      `
done, why = fill(f"/proc/self/fd/{os.memfd_create('x')}", ${beyondMemory}, 4 << 20)
escaped(f"{done >> 20} MiB") if why is None else refused(why)`,
      { ends: ['oom', 'disk'] },
    ),
    control: onHost('no limit on memory'),
  },
  {
    id: 9,
    group: 'resources',
    name: 'fill the workspace with bytes, then with names',
    attempt: async (target, ground) => {
      const bytes = await program(FILL_BOTH, { ends: ['disk'] })(target, ground);
      if (bytes.outcome !== 'refused') return bytes;
      const little = { memoryBytes: 64 * MIB };
      const names = await target.run({
        code: FILL_NAMES,
        params: ground.params,
        resources: little,
      });
      return findingOf(names, ['disk', 'oom']);
    },
    control: onHost('no limit on the disk'),
  },
  {
    id: 13,
    group: 'resources',
    name: 'ten thousand descriptors in one process',
    attempt: program(
      `
import resource
most = 10000
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
kept = 0
try:
    while kept < most:
        os.open("/dev/null", os.O_RDONLY)
        kept += 1
except OSError as error:
    refused(f"{errno.errorcode[error.errno]} after {kept}")
escaped(f"{kept} descriptors")`,
      { ends: ['oom'] },
    ),
    control: onHost("the host's own limit"),
  },
  {
    id: 21,
    group: 'resources',
    name: 'take priority over others: nice, real time, I/O, the OOM killer',
    attempt: program(`
every(
    nice=lambda: os.setpriority(os.PRIO_PROCESS, 0, -20) or os.getpriority(os.PRIO_PROCESS, 0),
    realtime=lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    io=lambda: call("ioprio_set", 1, 0, 1 << 13),
    oom=lambda: put("/proc/self/oom_score_adj", "-1000"),
)`),
    control: onHost('as root'),
    virtual: "it is a priority among the sandbox's own processes",
  },
  {
    id: 22,
    group: 'resources',
    name: "exhaust a kernel limit that is each user's (inotify)",
    attempt: async (target, ground) => {
      let told = '';
      const done = new AbortController();
      const held = new Promise<void>((resolve) => {
        const hog = target.run({
          code: INOTIFY_HOG,
          params: ground.params,
          signal: done.signal,
          onStdout: (text) => {
            told += text;
            if (told.includes('held')) resolve();
          },
        });
        hog.catch(() => {}).finally(() => resolve());
      });
      await held;
      try {
        return await program(INOTIFY_TRY)(target, ground);
      } finally {
        done.abort();
      }
    },
    control: onHost('two processes of one user', { uid: 65_533 }),
  },
];

function disk(id: number, name: string, place: 'tmp' | 'shm'): Attack {
  return {
    id,
    group: 'resources',
    name,
    attempt: program(
      `
done, why = fill(P["places"]["${place}"] + "/big", ${6 * diskBytes})
escaped(f"{done >> 20} MiB") if why is None else refused(f"{why} after {done >> 20} MiB")`,
      { ends: ['disk'] },
    ),
    control: onHost('a directory of the host'),
  };
}

const FORK_BOMB = `
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            linger(20)
        made += 1
except OSError as error:
    say("refused", f"{errno.errorcode[error.errno]} after {made}")
    os._exit(1)
escaped(f"{made} processes")`;

const SHELL_BOMB = `
bomb = 'f() { [ "$1" -gt 0 ] || { sleep 20; : ' + P["nonce"] + '; }; f $(($1 - 1)) & f $(($1 - 1)) & wait; }; f 5'
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(0), os.close(1), os.close(2)
        os.execv("/bin/sh", ["sh", "-c", bomb])
    os._exit(0)
os.wait()
time.sleep(0.3)
refused()`;

const FILL_BOTH = `
for place in ("workspace", "output"):
    done, why = fill(P["places"][place] + "/big", ${4 * diskBytes})
    if why is None:
        escaped(f"{done >> 20} MiB in {place}")
    os.unlink(P["places"][place] + "/big")
refused(why)`;

const FILL_NAMES = `
made, most, base = 0, 120000, P["places"]["workspace"] + "/"
try:
    while made < most:
        os.close(os.open(base + str(made), os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as error:
    refused(f"{errno.errorcode[error.errno]} after {made} files")
finally:
    if P["root"]:
        for name in range(made):
            os.unlink(base + str(name))
escaped(f"{made} files")`;

const INOTIFY_HOG = `
kept = 0
try:
    while kept < 10000:
        fd = libc.inotify_init1(0)
        if fd < 0:
            break
        kept += 1
finally:
    print("held", kept, flush=True)
time.sleep(10)
refused()`;

const INOTIFY_TRY = `
fd = libc.inotify_init1(0)
if fd < 0:
    escaped("no inotify instance is left: " + errno.errorcode[ctypes.get_errno()])
refused("an instance is left")`;
