import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { type Attack, program } from '../attack.ts';
import type { Ground } from '../ground.ts';
import { readOr } from '../host.ts';
import { NOBODY, onHost } from './controls.ts';

/** What the kernel shows as files, and what a program may become by running one. */

const BURST = '/proc/sys/kernel/printk_ratelimit_burst';

export const kernelFiles: readonly Attack[] = [
  {
    id: 38,
    group: 'kernel',
    name: 'change the kernel by its files: sysctl, sysrq, sysfs, release_agent',
    stage: restoresBurst,
    attempt: program(`
def more(path):
    value = int(open(path).read())
    with open(path, "w") as file:
        file.write(str(value + 1))
    return f"{value} became {open(path).read().strip()}"
def same(path):
    value = open(path).read()
    with open(path, "w") as file:
        file.write(value)
    return "written"
def openable(path):
    os.close(os.open(path, os.O_WRONLY))
    return "opened"
def release_agent():
    for directory, _, names in os.walk("/sys/fs/cgroup"):
        for name in names:
            if name in ("release_agent", "notify_on_release", "cgroup.procs", "memory.max", "memory.limit_in_bytes"):
                try:
                    return openable(f"{directory}/{name}") + f" {name}"
                except OSError:
                    pass
        if directory.count("/") > 6:
            break
    raise Shut("none")
every(
    sysctl=lambda: more("${BURST}"),
    core_pattern=lambda: same("/proc/sys/kernel/core_pattern"),
    randomize=lambda: openable("/proc/sys/kernel/randomize_va_space"),
    drop_caches=lambda: openable("/proc/sys/vm/drop_caches"),
    sysrq=lambda: openable("/proc/sysrq-trigger"),
    uevent_helper=lambda: openable("/sys/kernel/uevent_helper"),
    sysfs=lambda: openable("/sys/kernel/rcu_expedited"),
    release_agent=release_agent,
)`),
    control: onHost("as root, with the host's /proc and /sys"),
  },
  {
    id: 39,
    group: 'kernel',
    name: "read the host's secrets in /proc",
    stage: async (ground) => {
      await ground.victim();
      ground.params['host'] = hostname();
    },
    attempt: program(`
nonce = P["nonce"].encode()
def environments():
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if nonce in open(f"/proc/{name}/environ", "rb").read():
                    return f"of process {name}"
            except OSError:
                pass
    raise Shut("none that is ours")
def first():
    import re
    names = [line.split(b"=")[0].decode() for line in open("/proc/1/environ", "rb").read().split(b"\\0")]
    found = [name for name in names if re.search("SECRET|TOKEN|PASSWORD|KEY|CREDENTIAL|OUTRIDER", name, re.I)]
    if os.getpid() == 1 or not found:
        raise Shut("nothing in it")
    return " ".join(found)
def symbols():
    for line in open("/proc/kallsyms"):
        if int(line.split()[0], 16):
            return line.strip()
        raise Shut("zeros")
    raise Shut("empty")
def name():
    if socket.gethostname() != P["host"]:
        raise Shut("another")
    return P["host"]
def log():
    fd = os.open("/proc/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    return "opened"
def timers():
    line = open("/proc/timer_list").readline()
    if not line:
        raise Shut("empty")
    return line
def core():
    return len(os.read(os.open("/proc/kcore", os.O_RDONLY), 16))
every(environments=environments, first=first, symbols=symbols, name=name, log=log, timers=timers, core=core)`),
    control: onHost("as root, with the host's /proc"),
  },
  {
    id: 40,
    group: 'kernel',
    name: 'devices',
    attempt: program(`
import stat
fine = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
found = []
for directory, _, names in os.walk("/dev"):
    for name in names:
        path = os.path.join(directory, name)
        mode = os.lstat(path).st_mode
        if directory.startswith("/dev/pts") or not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) or name in fine:
            continue
        try:
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
            found.append(path)
        except OSError:
            pass
escaped(" ".join(found[:8])) if found else refused("none but the harmless ones")`),
    control: onHost("as root, with the host's /dev"),
    virtual: "its own kernel's, not the host's",
  },
  {
    id: 41,
    group: 'kernel',
    name: 'capabilities, and the way to new ones',
    attempt: program(`
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
wrong = []
for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
    if int(status.get(name, "0"), 16):
        wrong.append(f"{name} {status[name]}")
if libc.prctl(39, 0, 0, 0, 0) != 1:
    wrong.append("new privileges are possible")
if libc.prctl(21, 0, 0, 0, 0) != 2 and P.get("backend") != "gvisor":
    wrong.append("no filter of system calls")
if os.getuid() == 0:
    wrong.append("root")
escaped(", ".join(wrong)) if wrong else refused("none, and no way to any")`),
    control: onHost('as root'),
  },
  {
    id: 42,
    group: 'kernel',
    name: 'become root by a setuid program',
    attempt: program(`
import stat
tried = []
for directory in ("/usr/bin", "/bin", "/usr/sbin"):
    for name in ("su", "passwd", "newgrp", "chsh", "mount", "sudo"):
        path = f"{directory}/{name}"
        try:
            if not os.stat(path).st_mode & stat.S_ISUID or tried and os.path.realpath(path) in tried:
                continue
        except OSError:
            continue
        tried.append(os.path.realpath(path))
        # Not waited for: what it has become can be read even when it has ended.
        child = subprocess.Popen([path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for line in open(f"/proc/{child.pid}/status"):
            if line.startswith("Uid:"):
                uids = [int(uid) for uid in line.split()[1:]]
        child.kill()
        if uids[1] == 0 and os.getuid() != 0:
            escaped(f"{path} runs as root")
if not tried:
    absent("there is no setuid program")
refused(f"{len(tried)} programs tried") if os.getuid() else escaped("it is root already")`),
    control: onHost('an ordinary user of the host', { uid: NOBODY }),
  },
  {
    id: 43,
    group: 'kernel',
    name: "type into the caller's terminal",
    attempt: program(`
import fcntl, pty, termios
def typed():
    main, side = pty.openpty()
    os.setsid()
    fcntl.ioctl(side, termios.TIOCSCTTY, 0)
    fcntl.ioctl(side, 0x5412, b"x")
    return "typed"
def terminal():
    fd = os.open("/dev/tty", os.O_RDWR)
    return "the caller's terminal"
every(typed=typed, terminal=terminal)`),
    control: onHost('as root, without a filter'),
    virtual: "its own kernel's terminal, not the caller's",
  },
  {
    id: 56,
    group: 'filesystem',
    name: 'take the masks off /proc and /dev',
    attempt: program(`
import stat
def unmask():
    os.unlink(at("/dev/null"))
    return "/dev/null is gone"
def link():
    os.symlink("/proc/sysrq-trigger", at("/dev/null.new"))
    os.rename(at("/dev/null.new"), at("/dev/null"))
    return "/dev/null leads elsewhere"
def real():
    if not stat.S_ISCHR(os.stat("/dev/null").st_mode):
        return "/dev/null is no device"
    raise Shut("real")
def masked():
    for path in ("/proc/kcore", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware/acpi/tables/DSDT"):
        try:
            if os.read(os.open(path, os.O_RDONLY), 1):
                return path
        except OSError:
            pass
    raise Shut("empty or absent")
every(unlink=unmask, rename=link, real=real, masked=masked)`),
    control: onHost('as root, without masks'),
    virtual: "its own kernel's, not the host's",
  },
];

/** Puts the one sysctl that a control really changes back to what it was. */
function restoresBurst(ground: Ground): void {
  const value = readOr(BURST);
  ground.atEnd(() => {
    if (value !== '' && readOr(BURST) !== value) writeFileSync(BURST, value);
  });
}
