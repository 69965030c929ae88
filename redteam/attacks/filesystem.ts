import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Attack, escaped, program, refused } from '../attack.ts';
import { weakTarget } from '../weak.ts';
import { needsRoom, onHost } from './controls.ts';

/** Files: those of the host, those of the runner, and what follows them at the wrong moment. */

export const filesystem: readonly Attack[] = [
  {
    id: 45,
    group: 'filesystem',
    name: 'links out of the workspace, followed by whoever reads or writes files',
    stage: (ground) => {
      ground.params['secret'] = ground.secret();
    },
    attempt: async (target, ground) => {
      const room = await target.open();
      try {
        const code = `
os.symlink(P["secret"], P["places"]["workspace"] + "/link")
os.symlink(os.path.dirname(P["secret"]), P["places"]["workspace"] + "/up")
refused("made")`;
        await room.run({ code, params: ground.params });
        for (const path of ['link', 'up/secret']) {
          const read = await room.read(path).then(String, () => '');
          if (read.includes(ground.nonce)) return escaped(`${path} led to a file of the host`);
          await room.write(path, 'overwritten').catch(() => {});
        }
        return refused('no link was followed to the host');
      } finally {
        await room.close();
      }
    },
    control: onHost('files that are read as they are named'),
    unfit: needsRoom,
  },
  {
    id: 46,
    group: 'filesystem',
    name: 'move what stands above a protected file',
    attempt: program(`
moves = {path: lambda path=path: os.rename(at(path), P["places"]["tmp"] + "/moved" + path.replace("/", "-")) or "moved"
         for path in ("/run/agent", "/run/outrider", "/run", "/etc", "/usr")}
aside = lambda: os.rename(at("/etc"), at("/etc.old")) or "renamed"
every(aside=aside, **moves)`),
    control: onHost('directories of its own'),
  },
  {
    id: 47,
    group: 'filesystem',
    name: 'a second name for a protected file',
    attempt: program(`
every(**{path: lambda path=path: os.link(at(path), P["places"]["workspace"] + path.replace("/", "-")) or "linked"
         for path in ("/run/agent/agent.py", "/etc/passwd", "/usr/bin/python3")})`),
    control: onHost('a file of its own'),
  },
  {
    id: 48,
    group: 'filesystem',
    name: 'make what is not there yet, and would be believed',
    attempt: program(`
def make(path):
    os.close(os.open(at(path), os.O_CREAT | os.O_WRONLY, 0o755))
    return "made"
every(**{path: lambda path=path: make(path) for path in (
    "/etc/ld.so.preload", "/run/outrider/control2", "/run/agent/json.py", "/usr/bin/python", "/new")})`),
    control: onHost('directories of its own'),
  },
  {
    id: 49,
    group: 'filesystem',
    name: 'files that somebody else will run: profiles, hooks, keys',
    stage: (ground) => {
      const home = ground.sealed('home');
      ground.params['home'] = home;
    },
    attempt: program(`
def plant(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write("# planted")
    return "planted"
names = (".bashrc", ".git/hooks/pre-commit", ".ssh/authorized_keys", ".mcp.json")
worked = {name: attempt(lambda name=name: plant(f"{P['home']}/{name}")) for name in names}
refused(worked)`),
    control: onHost('a home directory that it may write'),
  },
  {
    id: 50,
    group: 'filesystem',
    name: 'device files of its own',
    attempt: program(`
import stat
def device(kind, major, minor):
    path = f"{P['places']['workspace']}/{kind}-{major}-{minor}"
    os.mknod(path, kind | 0o666, os.makedev(major, minor))
    os.close(os.open(path, os.O_RDONLY))
    return "opened"
every(character=lambda: device(stat.S_IFCHR, 1, 5), memory=lambda: device(stat.S_IFCHR, 1, 1),
      block=lambda: device(stat.S_IFBLK, 7, 0))`),
    control: onHost('as root'),
    virtual: "its own kernel's, not the host's",
  },
  {
    id: 51,
    group: 'filesystem',
    name: 'artefacts that are links, pipes, devices, or change while they are read',
    stage: (ground) => {
      ground.params['secret'] = ground.secret();
    },
    attempt: async (target, ground) => {
      const { artefacts, killedBy } = await target.run({
        code: ODD_ARTEFACTS,
        params: ground.params,
      });
      if (killedBy !== 'exit') return escaped(`it ended by ${killedBy}`);
      const stolen = artefacts.find(({ content }) => content.includes(ground.nonce));
      if (stolen) return escaped(`${stolen.path} came back with a file of the host`);
      const big = artefacts.reduce((sum, { content }) => sum + content.length, 0);
      return big <= 4 * 2 ** 20 ? refused(`${artefacts.length} taken`) : escaped(`${big} bytes`);
    },
    control: onHost('a collector that follows whatever it finds'),
  },
  {
    id: 76,
    group: 'filesystem',
    name: 'a file swapped for a link while it is read',
    stage: (ground) => {
      ground.params['secret'] = ground.secret();
    },
    attempt: async (target, ground) => {
      const room = await target.open();
      const stop = new AbortController();
      try {
        const ready = new Promise<void>((resolve, reject) => {
          const onStdout = () => resolve();
          const { params } = ground;
          room.run({ code: SWAPPER, params, signal: stop.signal, onStdout }).catch(reject);
        });
        await ready;
        const startedAt = performance.now();
        let count = 0;
        for (; count < RACES || performance.now() - startedAt < RACES_MS; count++) {
          const read = await room.read('swapped').then(String, () => '');
          if (read.includes(ground.nonce)) return escaped(`read ${count} followed the link`);
          await sleep(1); // the other side gets its turn also where there is one processor
        }
        return refused(`${count} reads, none followed`);
      } finally {
        stop.abort();
        await room.close();
      }
    },
    control: onHost('files that are read as they are named'),
    unfit: needsRoom,
  },
  {
    id: 52,
    group: 'filesystem',
    name: 'input files that are named so that they land on the host',
    stage: (ground) => {
      ground.params['sealed'] = ground.sealed('sealed');
    },
    attempt: async (target, ground) => {
      const sealed = String(ground.params['sealed']);
      const up = '../'.repeat(12);
      const paths = [`${sealed}/a`, `${up}${sealed.slice(1)}/b`, `x/${up}${sealed.slice(1)}/c`];
      const answers: string[] = [];
      for (const path of paths) {
        const ran = target.run({ code: 'refused()', files: { [path]: 'planted' } });
        answers.push(
          await ran.then(
            ({ killedBy }) => killedBy,
            () => 'refused',
          ),
        );
      }
      return refused(answers.join(', '));
    },
    control: onHost('paths that are believed'),
  },
  {
    id: 53,
    group: 'filesystem',
    name: 'descriptors that were left open',
    stage: (ground) => {
      ground.params['secret'] = ground.secret();
    },
    attempt: program(`
found = []
for name in os.listdir("/proc/self/fd"):
    try:
        leads = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        continue
    # The interpreter tells of an uncaught exception on a pipe of its own.
    if int(name) > 2 and not leads.startswith("pipe:") and not leads.startswith(f"/proc/{os.getpid()}/fd"):
        found.append(f"{name} {leads}")
pipes = sum(os.readlink(f"/proc/self/fd/{name}").startswith("pipe:") for name in range(3, 12) if os.path.exists(f"/proc/self/fd/{name}"))
if pipes > 1:
    found.append(f"{pipes} pipes")
escaped(", ".join(found)) if found else refused("none")`),
    control: {
      how: 'a descriptor is left open',
      target: (ground) => {
        const leak = openSync(String(ground.params['secret']), 'r');
        ground.atEnd(() => closeSync(leak));
        return weakTarget(ground, { leak });
      },
    },
  },
  {
    id: 54,
    group: 'filesystem',
    name: 'secrets in the environment',
    stage: (ground) => {
      ground.params['value'] = ground.rig?.secret ?? '';
    },
    attempt: program(`
import re
value, found = P["value"].encode(), []
for name in os.listdir("/proc"):
    if name.isdigit() or name == "self":
        try:
            if value and value in open(f"/proc/{name}/environ", "rb").read():
                found.append(f"environment of {name}")
        except OSError:
            pass
for name in os.environ:
    if re.search("SECRET|TOKEN|PASSWORD|CREDENTIAL|API_KEY|^AWS_|^OUTRIDER_(?!URL$|OUTPUT$)", name, re.I):
        found.append(name)
escaped(", ".join(found)) if found else refused(f"{len(os.environ)} variables")`),
    control: {
      how: 'the environment is passed on',
      target: (ground) => {
        const before = ['env', `SOME_SECRET=${String(ground.params['value']) || ground.nonce}`];
        return weakTarget(ground, { before });
      },
    },
  },
  {
    id: 55,
    group: 'filesystem',
    name: 'overwrite the runtime: agent, interpreter, /proc/self/exe',
    attempt: program(`
def writable(path):
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    return "opened"
def by_handle():
    handle = os.open("/proc/self/exe", os.O_PATH)
    return writable(f"/proc/self/fd/{handle}")
every(
    agent=lambda: writable(at("/run/agent/agent.py")),
    interpreter=lambda: writable(at("/usr/bin/python3")),
    first=lambda: writable("/proc/1/exe"),
    this=by_handle,
)`),
    control: onHost('files of its own'),
  },
  {
    id: 57,
    group: 'filesystem',
    name: "sockets of the host: container engines, the runner's, the sidecar's",
    stage: async (ground) => {
      const path = join(ground.directory, 'engine.sock');
      await ground.listener(path);
      const { rig } = ground;
      const own = rig
        ? (['runner', 'sidecar', 'proxy', 'admin'] as const).map((n) => rig.socket(n))
        : [];
      ground.params['sockets'] = [
        path,
        ...own,
        '/var/run/docker.sock',
        '/run/containerd/containerd.sock',
        '/run/outrider/control',
      ];
    },
    attempt: program(`
def reached(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(2)
        one.connect(path)
        return "connected"
every(**{path: lambda path=path: reached(path) for path in P["sockets"]})`),
    control: onHost("the host's directories are there"),
  },
];

const RACES = 200;
const RACES_MS = 1_500;

const ODD_ARTEFACTS = `
import stat
base = P["places"]["output"]
os.symlink(P["secret"], base + "/link.txt")
os.symlink(os.path.dirname(P["secret"]), base + "/up")
os.mkfifo(base + "/pipe")
one = socket.socket(socket.AF_UNIX)
one.bind(base + "/socket")
with open(base + "/big", "wb") as file:
    file.write(b"x" * (1 << 20))
for number in range(100):
    os.symlink("big", f"{base}/again{number}")
deep = base
for _ in range(1000):
    deep += "/d"
    try:
        os.mkdir(deep)
    except OSError:
        break
for odd in (b"new\\nline", b"back\\\\slash", b"\\xff\\xfe", "\\u202e".encode()):
    open(os.path.join(base.encode(), odd), "w").close()
refused("laid out")`;

const SWAPPER = `
path = P["places"]["workspace"] + "/swapped"
open(path + ".file", "w").write("harmless")
print("ready", flush=True)
end = time.time() + 15
while time.time() < end:
    os.link(path + ".file", path + ".a")
    os.rename(path + ".a", path)
    os.symlink(P["secret"], path + ".b")
    os.rename(path + ".b", path)`;
