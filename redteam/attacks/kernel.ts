import { type Attack, program } from '../attack.ts';
import { NOBODY, onHost, weakBox } from './controls.ts';

/** System calls that reach what a sandbox has no use for. Most controls make them as root, where nothing refuses them. */

/** Its own kernel keeps such things to itself: what they would change is not the host's. */
const OWN = "its own kernel's, not the host's";

/** Inside, the first process of the sandbox; in a control, one of the host that was started for it. */
const FIRST_PROCESS = `
victim = P["outside"] if P["root"] else 1
if os.getpid() == 1:
    absent("the program is the first process itself")`;

/** `int 0x80`, and a number with the bit of x32: both would pass a filter that looks at numbers alone. */
const FOREIGN_ABI = `
import mmap
if platform.machine() != "x86_64":
    absent("this machine has one ABI")
def machine_code(code):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    if result < 0:
        raise Shut(f"answers {result}")
    return f"answers {result}"
every(
    ia32=lambda: machine_code(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3"),
    x32=lambda: machine_code(b"\\xb8\\x27\\x00\\x00\\x40\\x0f\\x05\\xc3"),
)`;

/** Calls that each must be refused. */
function calls(id: number, name: string, code: string, more: Partial<Attack> = {}): Attack {
  return {
    id,
    group: 'kernel',
    name,
    attempt: program(code),
    control: onHost('as root, without a filter'),
    ...more,
  };
}

export const kernel: readonly Attack[] = [
  calls(24, 'io_uring', `every(setup=lambda: call("io_uring_setup", 1, bytes(256)))`, {
    virtual: OWN,
  }),
  calls(
    25,
    'kernel key rings',
    `
def add():
    libc.syscall(CALLS["keyctl"], 1, None)
    return call("add_key", b"user", P["nonce"].encode(), b"x", 1, -3)
def keys():
    text = open("/proc/keys").read()
    if not text.strip():
        raise Shut("empty")
    return f"{len(text.splitlines())} keys are listed"
every(
    add_key=add,
    keyctl=lambda: call("keyctl", 0, -3, 1),
    **{"/proc/keys": keys},
)`,
    { virtual: OWN },
  ),
  calls(
    26,
    'userfaultfd',
    'every(any=lambda: call("userfaultfd", 0), user=lambda: call("userfaultfd", 1))',
    {
      virtual: OWN,
    },
  ),
  calls(
    27,
    'programs in the kernel (bpf)',
    'every(map=lambda: call("bpf", 0, struct.pack("<IIIII", 2, 4, 8, 1, 0) + bytes(100), 120))',
    { virtual: OWN },
  ),
  calls(
    28,
    'performance counters',
    'every(clock=lambda: call("perf_event_open", struct.pack("<IIQ", 1, 128, 0) + bytes(112), 0, -1, -1, 0))',
    { virtual: OWN },
  ),
  calls(
    29,
    'namespaces of users, by every call that makes one',
    `
def clone(flags):
    pid = call("clone", flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"
def clone3():
    pid = call("clone3", struct.pack("<8Q", NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "made"
every(
    unshare=lambda: call("unshare", NEWUSER),
    clone=lambda: clone(NEWUSER),
    high_bits=lambda: clone(NEWUSER | 1 << 40),
    clone3=clone3,
)`,
    { virtual: OWN },
  ),
  calls(
    30,
    'the whole way: user namespace, mounts, a root of its own',
    `
def chain():
    uid, gid = os.getuid(), os.getgid()
    call("unshare", NEWUSER | NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        put(f"/proc/self/{name}", text)
    call("mount", None, b"/", None, 0x40000 | 0x4000, None)
    where = P["places"]["tmp"].encode()
    call("mount", b"x", where, b"tmpfs", 0, None)
    os.mkdir(where + b"/old")
    call("mount", b"/", where + b"/old", None, 0x1000 | 0x4000, None)
    call("pivot_root", where, where + b"/old")
    call("umount2", b"/old", 2)
    return "a root of its own"
every(chain=chain)`,
    {
      control: weakBox('a box without a filter', ['--unshare-pid'], { uid: NOBODY }),
      virtual: OWN,
    },
  ),
  calls(
    31,
    'mounts, by the old calls and the new',
    `
tmp = P["places"]["tmp"].encode()
every(
    mount=lambda: reach("mount", b"x", tmp, b"tmpfs", 0, None),
    umount=lambda: reach("umount2", b"/proc", 2) if not P["root"] else reach("umount2", tmp, 2),
    open_tree=lambda: reach("open_tree", AT_FDCWD, tmp, 1),
    fsopen=lambda: reach("fsopen", b"tmpfs", 0),
    move_mount=lambda: reach("move_mount", AT_FDCWD, tmp, AT_FDCWD, tmp, 0),
    mount_setattr=lambda: reach("mount_setattr", AT_FDCWD, tmp, 0, bytes(32), 32),
    setns=lambda: reach("setns", os.open("/proc/self/ns/mnt", os.O_RDONLY), NEWNS),
)`,
    {
      control: onHost('as root, in a mount namespace of its own', {
        before: ['unshare', '--mount', '--propagation', 'private'],
      }),
      virtual: OWN,
    },
  ),
  {
    ...calls(
      32,
      "read and write the memory of the sandbox's first process",
      `${FIRST_PROCESS}
buffer = ctypes.create_string_buffer(8)
def vm_read():
    spot = int(open(f"/proc/{victim}/maps").readline().split("-")[0], 16)
    local = struct.pack("<QQ", ctypes.addressof(buffer), 8)
    return call("process_vm_readv", victim, local, 1, struct.pack("<QQ", spot, 8), 1, 0)
every(
    seize=lambda: call("ptrace", 0x4206, victim, 0, 0),
    attach=lambda: call("ptrace", 16, victim, 0, 0),
    mem=lambda: os.close(os.open(f"/proc/{victim}/mem", os.O_RDWR)) or "opened",
    process_vm_readv=vm_read,
)`,
    ),
    stage: async (ground) => {
      ground.params['outside'] = (await ground.victim()).pid;
    },
  },
  {
    ...calls(
      33,
      "take the descriptors of the sandbox's first process",
      `${FIRST_PROCESS}
import stat
def opened():
    found = []
    for name in os.listdir(f"/proc/{victim}/fd"):
        try:
            fd = os.open(f"/proc/{victim}/fd/{name}", os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            continue
        # The pipes are those of this very program: output, input, status.
        mode = os.fstat(fd).st_mode
        if not stat.S_ISFIFO(mode) and not (stat.S_ISCHR(mode) and os.read(fd, 1) == b""):
            found.append(name)
    if not found:
        raise Shut("none but pipes of its own")
    return "opened " + " ".join(found)
def take():
    pidfd = call("pidfd_open", victim, 0)
    return [call("pidfd_getfd", pidfd, number, 0) for number in range(3)]
every(
    pidfd_getfd=take,
    opened=opened,
)`,
    ),
    stage: async (ground) => {
      ground.params['outside'] = (await ground.victim()).pid;
    },
  },
  calls(
    34,
    'sockets of every other family',
    `
families = dict(vsock=40, packet=17, netlink=16, alg=38, bluetooth=31, can=29, xdp=44, tipc=30, rds=21, kcm=41)
every(
    raw=lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    **{name: lambda number=number: socket.socket(number, socket.SOCK_RAW if name == "packet" else
       socket.SOCK_DGRAM if number in (31, 17) else socket.SOCK_STREAM if number == 40 else
       socket.SOCK_SEQPACKET if number in (38, 21) else socket.SOCK_RAW)
       for name, number in families.items()},
)`,
    { virtual: OWN },
  ),
  {
    ...calls(35, 'the system calls of another ABI (ia32, x32)', FOREIGN_ABI),
    control: onHost('as root, without a filter'),
  },
  {
    ...calls(
      36,
      'files by handle, past every path, and a personality',
      `
def handle(path):
    buffer = ctypes.create_string_buffer(struct.pack("<II", 128, 0) + bytes(128), 136)
    mount = ctypes.c_int()
    call("name_to_handle_at", AT_FDCWD, path.encode(), buffer, ctypes.byref(mount), 0)
    return buffer
def shocker():
    place = P["places"]["workspace"]
    made = ctypes.create_string_buffer(struct.pack("<IiIIQ", 16, 1, 2, 0, 0) + bytes(112), 136)
    return call("open_by_handle_at", os.open(place, os.O_RDONLY), made, os.O_RDONLY)
def reopen():
    return call("open_by_handle_at", os.open(P["places"]["workspace"], os.O_RDONLY),
                handle(P["places"]["workspace"]), os.O_RDONLY)
every(
    personality=lambda: call("personality", 0x40000),
    name_to_handle_at=lambda: handle(P["places"]["workspace"]) and "named",
    open_by_handle_at=reopen,
    shocker=shocker,
)`,
    ),
    virtual: OWN,
  },
  calls(
    37,
    'what only the owner of the machine may do',
    `
name = socket.gethostname().encode()
every(
    kexec=lambda: reach("kexec_load", 0, 0, 0, 0xff00),
    init_module=lambda: reach("init_module", b"", 0, b""),
    finit_module=lambda: reach("finit_module", -1, b"", 0),
    swapon=lambda: reach("swapon", b"/no/such/file", 0),
    settimeofday=lambda: reach("settimeofday", None, None),
    reboot=lambda: reach("reboot", 1, 2, 3, None),
    sethostname=lambda: reach("sethostname", name, len(name)),
    acct=lambda: reach("acct", b"/no/such/file"),
    fanotify=lambda: reach("fanotify_init", 0, 0),
)`,
    {
      control: onHost('as root, in a name space of its own', { before: ['unshare', '--uts'] }),
      virtual: OWN,
    },
  ),
  calls(
    44,
    "the kernel's packet filter through a network of its own",
    `
def filter():
    call("unshare", NEWUSER | NEWNET)
    return socket.socket(16, socket.SOCK_RAW, 12)
every(filter=filter, directly=lambda: socket.socket(16, socket.SOCK_RAW, 12))`,
    { control: onHost('a user namespace for everybody', { uid: NOBODY }), virtual: OWN },
  ),
];
