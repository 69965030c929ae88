import { type Attack, escaped, type Finding, program, refused } from '../attack.ts';
import type { Ground } from '../ground.ts';
import type { Program, Run, Target } from '../target.ts';
import { weakTarget } from '../weak.ts';
import { needsRoom, onHost } from './controls.ts';

/** One tenant and another, one run and the next, the program and the agent beside it. */

export const tenancy: readonly Attack[] = [
  {
    id: 71,
    group: 'tenancy',
    name: "a neighbour's processes, files, sockets, shared memory",
    attempt: async (target, ground) => {
      const stop = new AbortController();
      const neighbour = await started(target, { ...params(ground), code: NEIGHBOUR }, stop.signal);
      try {
        return await program(LOOK_AROUND)(target, ground);
      } finally {
        stop.abort();
        await neighbour.over;
      }
    },
    control: onHost('two processes of one host'),
  },
  {
    id: 72,
    group: 'tenancy',
    name: 'what the tenant before left behind',
    attempt: async (target, ground) => {
      await target.run({ ...params(ground), code: LEAVE_BEHIND });
      return await program(FIND_LEFT)(target, ground);
    },
    control: onHost('a place that is used again'),
  },
  {
    id: 73,
    group: 'tenancy',
    name: 'the same random numbers as another',
    attempt: async (target, ground) => {
      const fresh = [1, 2, 3].map(() => target.run({ ...params(ground), code: RANDOM }));
      const runs = await Promise.all(fresh);
      const room = target.visit === undefined ? undefined : await target.open();
      try {
        for (const again of room ? [room, room] : [])
          runs.push(await again.run({ ...params(ground), code: RANDOM }));
        return distinct(runs);
      } finally {
        await room?.close();
      }
    },
    control: onHost("a generator's state is handed on", {
      preface: 'import random\nrandom.seed(1)\n',
    }),
  },
  {
    id: 74,
    group: 'tenancy',
    name: "somebody else's sandbox, by its id",
    attempt: async (target, ground) => {
      const room = await target.open();
      try {
        await room.run({
          ...params(ground),
          code: 'open("/workspace/mine", "w").write(P["nonce"])',
        });
        const other = (target.stranger ?? target).visit?.(room.id);
        if (!other) return refused('nobody else can try');
        const read = await other.read('mine').then(String, () => '');
        if (read.includes(ground.nonce)) return escaped('its file was read');
        const ran = await other.run({ code: 'refused()' }).then(
          () => true,
          () => false,
        );
        if (ran) return escaped('a program ran in it');
        await other.close();
        const still = await room.read('mine').then(String, () => '');
        return still === ground.nonce ? refused('as if it were not there') : escaped('it is gone');
      } finally {
        await room.close();
      }
    },
    control: {
      how: 'the owner does the same',
      target: (_ground, attacked) => ({ ...attacked, stranger: undefined }),
    },
    unfit: (target) =>
      target.stranger === undefined ? 'nobody else can be played there' : undefined,
  },
  {
    id: 75,
    group: 'tenancy',
    name: 'many programs, ended at random moments',
    attempt: async (target, ground) => {
      await Promise.all(
        Array.from({ length: ENDED }, async (_, index) => {
          const signal = AbortSignal.timeout(20 + ((index * 37) % 400));
          await target.run({ ...params(ground), code: DAEMONS, signal }).catch(() => {});
        }),
      );
      const left = await ground.survivors(4_000);
      return left === 0 ? refused('nothing is left') : escaped(`${left} processes are left`);
    },
    control: onHost('only the direct child is ended'),
    unfit: needsRoom,
  },
  {
    id: 77,
    group: 'tenancy',
    name: 'forge an end: exit code, exception, frames of the agent',
    attempt: async (target, ground) => {
      const run = await target.run({ ...params(ground), code: FORGE });
      const { killedBy, exitCode } = run;
      if (killedBy !== 'exit' || exitCode !== 7)
        return escaped(`exit 7 was told as ${killedBy} ${exitCode ?? ''}`);
      return refused('told as it was');
    },
    control: onHost('a wrapper that takes the status from the output', {
      before: ['/bin/sh', '-c', 'told=$("$@" | tail -c 1); exit "${told:-7}"', 'sh'],
    }),
  },
  {
    id: 78,
    group: 'tenancy',
    name: 'end, stop or starve the first process of the sandbox',
    attempt: async (target, ground) => {
      const room = await target.open();
      try {
        const { killedBy } = await room.run({ ...params(ground), code: END_FIRST });
        const run = await room.run({ code: 'print("alive")' }).catch(() => undefined);
        return run?.stdout.toString() === 'alive\n'
          ? refused('it answers')
          : escaped(`it does not answer, after an end by ${killedBy}`);
      } finally {
        await room.close();
      }
    },
    control: { how: 'the first process is an ordinary one', target: withMortalFirst },
    unfit: needsRoom,
  },
  {
    id: 79,
    group: 'tenancy',
    name: 'a door for the agent: its control socket and relay port',
    attempt: program(`
def control():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(at("/run/outrider/control"))
        one.sendall(struct.pack(">IBI", 5 + 2, 2, 0) + b"{}")
        return "connected"
def replace():
    os.unlink(at("/run/outrider/egress"))
    return "removed"
def beside():
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(at("/run/outrider/mine"))
        return "bound"
def port():
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", P.get("port", 3128)))
        one.listen()
        return "listening"
every(control=control, replace=replace, beside=beside, port=port)`),
    control: onHost('a directory that it may write'),
  },
];

const ENDED = 12;

const params = (ground: Ground): Pick<Program, 'params'> => ({ params: ground.params });

/** Runs a program until it has said something; `over` resolves when it has ended. */
function started(
  target: Target,
  given: Program,
  signal: AbortSignal,
): Promise<{ readonly over: Promise<unknown> }> {
  return new Promise((resolve, reject) => {
    const run: Promise<unknown> = target.run({
      ...given,
      signal,
      onStdout: () => resolve({ over: run.catch(() => {}) }),
    });
    run.catch(reject);
  });
}

function distinct(runs: readonly Run[]): Finding {
  const lines = runs.map(({ stdout }) => stdout.toString().trim().split(' '));
  const [first = []] = lines;
  if (first.length < 4) return escaped('it printed no numbers');
  for (const index of first.keys()) {
    const values = lines.map((line) => line[index]);
    if (new Set(values).size < values.length) return escaped(`twice ${values[0]}`);
  }
  return refused(`${lines.length} runs, all different`);
}

const NEIGHBOUR = `
import mmap
for place in ("tmp", "workspace", "shm"):
    open(f"{P['places'][place]}/{P['nonce']}", "w").write("mine")
one = socket.socket(socket.AF_UNIX)
one.bind("\\0" + P["nonce"] + "-abstract")
one.listen()
if os.fork() == 0:
    linger(20)
time.sleep(0.1)
print("ready", flush=True)
time.sleep(20)`;

const LOOK_AROUND = `
def files():
    for place in P["places"].values():
        if os.path.exists(f"{place}/{P['nonce']}"):
            return place
    raise Shut("none")
def processes():
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and int(name) != os.getppid():
            try:
                if ("sleep 20; : " + P["nonce"]).encode() in open(f"/proc/{name}/cmdline", "rb").read():
                    return name
            except OSError:
                pass
    raise Shut("none")
def abstract():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\\0" + P["nonce"] + "-abstract")
        return "connected"
def ipc():
    if P["nonce"] in open("/proc/net/unix").read():
        return "listed"
    raise Shut("not listed")
every(files=files, processes=processes, abstract=abstract, sockets=ipc)`;

const LEAVE_BEHIND = `
for place in P["places"].values():
    open(f"{place}/left-{P['nonce']}", "w").write("left")
os.environ["LEFT"] = P["nonce"]
import builtins
builtins.left = P["nonce"]
refused()`;

const FIND_LEFT = `
import builtins
found = [place for place in P["places"].values() if os.path.exists(f"{place}/left-{P['nonce']}")]
if hasattr(builtins, "left") or "LEFT" in os.environ:
    found.append("memory")
escaped(", ".join(found)) if found else refused("nothing")`;

const RANDOM = `
import random, secrets, tempfile, uuid
print(random.random(), uuid.uuid4(), os.urandom(8).hex(), secrets.token_hex(8), next(tempfile._get_candidate_names()))`;

const DAEMONS = `
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        linger(25)
linger(25)`;

/** Frames as the agent sends them, an exception as the interpreter reports it, and then an end that is neither. */
const FORGE = `
end = json.dumps({"exit": 0, "exception": None, "artefacts": []}).encode()
frame = struct.pack(">IBI", len(end) + 5, 6, 1) + end
for fd in range(1, 64):
    try:
        os.write(fd, frame + b'{"type": "Forged", "message": "", "traceback": ""}\\n{"exit": 0}\\n0')
    except OSError:
        pass
os._exit(7)`;

const END_FIRST = `
first = P["first"] if P["root"] else 1
for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV, signal.SIGABRT):
    try:
        os.kill(first, number)
    except OSError:
        pass
try:
    os.setpriority(os.PRIO_PROCESS, first, 19)
except OSError:
    pass
open(f"/proc/{first}/oom_score_adj", "w").write("1000")`;

/** A process of the host stands for the agent: without it nothing runs. */
async function withMortalFirst(ground: Ground): Promise<Target> {
  const first = await ground.victim();
  ground.params['first'] = first.pid;
  const weak = weakTarget(ground);
  return {
    ...weak,
    async open() {
      const room = await weak.open();
      const alive = () => first.exitCode === null && first.signalCode === null;
      const gone = () => Promise.reject(new Error('nobody is there to run it'));
      return { ...room, run: (given) => (alive() ? room.run(given) : gone()) };
    },
  };
}
