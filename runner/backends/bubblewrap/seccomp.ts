import {
  ABSENT,
  ALLOWED_FAMILIES,
  CLONE_NEW,
  EAFNOSUPPORT,
  ENOSYS,
  EPERM,
  REFUSED,
  TIOCLINUX,
  TIOCSTI,
} from '../seccomp-rules.ts';

/** The seccomp rules of a box as classic BPF (linux/filter.h, seccomp(2)), assembled here so that nothing has to be compiled. */

interface SyscallTable {
  /** AUDIT_ARCH_* of linux/audit.h. */
  readonly arch: number;
  /** Numbers at and above this are another ABI (x32) and end the process. */
  readonly foreignFrom: number | undefined;
  readonly numbers: Readonly<Record<string, number>>;
}

const X86_64: SyscallTable = {
  arch: 0xc000003e,
  foreignFrom: 0x40000000,
  numbers: {
    socket: 41,
    socketpair: 53,
    clone: 56,
    ptrace: 101,
    syslog: 103,
    personality: 135,
    ioctl: 16,
    vhangup: 153,
    pivot_root: 155,
    adjtimex: 159,
    chroot: 161,
    acct: 163,
    settimeofday: 164,
    mount: 165,
    umount2: 166,
    swapon: 167,
    swapoff: 168,
    reboot: 169,
    sethostname: 170,
    setdomainname: 171,
    iopl: 172,
    ioperm: 173,
    init_module: 175,
    delete_module: 176,
    quotactl: 179,
    nfsservctl: 180,
    lookup_dcookie: 212,
    clock_settime: 227,
    mbind: 237,
    set_mempolicy: 238,
    kexec_load: 246,
    add_key: 248,
    request_key: 249,
    keyctl: 250,
    migrate_pages: 256,
    unshare: 272,
    move_pages: 279,
    perf_event_open: 298,
    fanotify_init: 300,
    name_to_handle_at: 303,
    open_by_handle_at: 304,
    clock_adjtime: 305,
    setns: 308,
    process_vm_readv: 310,
    process_vm_writev: 311,
    kcmp: 312,
    finit_module: 313,
    kexec_file_load: 320,
    bpf: 321,
    userfaultfd: 323,
    io_uring_setup: 425,
    io_uring_enter: 426,
    io_uring_register: 427,
    open_tree: 428,
    move_mount: 429,
    fsopen: 430,
    fsconfig: 431,
    fsmount: 432,
    fspick: 433,
    clone3: 435,
    pidfd_getfd: 438,
    process_madvise: 440,
    mount_setattr: 442,
    quotactl_fd: 443,
  },
};

const ARM64: SyscallTable = {
  arch: 0xc00000b7,
  foreignFrom: undefined,
  numbers: {
    socket: 198,
    socketpair: 199,
    clone: 220,
    ptrace: 117,
    syslog: 116,
    personality: 92,
    ioctl: 29,
    vhangup: 58,
    pivot_root: 41,
    adjtimex: 171,
    chroot: 51,
    acct: 89,
    settimeofday: 170,
    mount: 40,
    umount2: 39,
    swapon: 224,
    swapoff: 225,
    reboot: 142,
    sethostname: 161,
    setdomainname: 162,
    init_module: 105,
    delete_module: 106,
    quotactl: 60,
    nfsservctl: 42,
    lookup_dcookie: 18,
    clock_settime: 112,
    mbind: 235,
    set_mempolicy: 237,
    kexec_load: 104,
    add_key: 217,
    request_key: 218,
    keyctl: 219,
    migrate_pages: 238,
    unshare: 97,
    move_pages: 239,
    perf_event_open: 241,
    fanotify_init: 262,
    name_to_handle_at: 264,
    open_by_handle_at: 265,
    clock_adjtime: 266,
    setns: 268,
    process_vm_readv: 270,
    process_vm_writev: 271,
    kcmp: 272,
    finit_module: 273,
    kexec_file_load: 294,
    bpf: 280,
    userfaultfd: 282,
    io_uring_setup: 425,
    io_uring_enter: 426,
    io_uring_register: 427,
    open_tree: 428,
    move_mount: 429,
    fsopen: 430,
    fsconfig: 431,
    fsmount: 432,
    fspick: 433,
    clone3: 435,
    pidfd_getfd: 438,
    process_madvise: 440,
    mount_setattr: 442,
    quotactl_fd: 443,
  },
};

const TABLES: Readonly<Record<string, SyscallTable>> = { x64: X86_64, arm64: ARM64 };

// linux/bpf_common.h and linux/seccomp.h
const LD_ABS = 0x20;
const JEQ = 0x15;
const JGE = 0x35;
const AND = 0x54;
const RET = 0x06;
const ALLOW = 0x7fff0000;
const KILL_PROCESS = 0x80000000;
const ERRNO = 0x00050000;
// struct seccomp_data
const NR = 0;
const ARCH = 4;
const ARGUMENT = (index: number) => 16 + 8 * index;

interface Instruction {
  readonly code: number;
  readonly k: number;
  readonly jt?: number;
  readonly jf?: number;
}

/**
 * The program for this machine's architecture (`process.arch`), as the bytes that `bwrap --seccomp` reads.
 * Undefined where the architecture has no table: then no box may be made.
 */
export function seccompProgram(arch: string): Buffer | undefined {
  const table = TABLES[arch];
  if (!table) return undefined;
  const numberOf = (name: string): number[] =>
    table.numbers[name] === undefined ? [] : [table.numbers[name]];
  const program: Instruction[] = [
    { code: LD_ABS, k: ARCH },
    { code: JEQ, k: table.arch, jt: 1, jf: 0 },
    { code: RET, k: KILL_PROCESS }, // int 0x80 and its like
    { code: LD_ABS, k: NR },
    ...(table.foreignFrom === undefined
      ? []
      : [
          { code: JGE, k: table.foreignFrom, jt: 0, jf: 1 },
          { code: RET, k: KILL_PROCESS },
        ]),
    ...REFUSED.flatMap(numberOf).flatMap((number) =>
      whenNumber(number, [{ code: RET, k: ERRNO | EPERM }]),
    ),
    ...ABSENT.flatMap(numberOf).flatMap((number) =>
      whenNumber(number, [{ code: RET, k: ERRNO | ENOSYS }]),
    ),
    ...numberOf('clone').flatMap((number) => whenNumber(number, refuseFlags())),
    ...['socket', 'socketpair']
      .flatMap(numberOf)
      .flatMap((number) => whenNumber(number, allowFamilies())),
    ...numberOf('ioctl').flatMap((number) => whenNumber(number, refuseTerminalInput())),
    { code: RET, k: ALLOW },
  ];
  return assemble(program);
}

/** `then` must end the program on every path. */
function whenNumber(number: number, then: readonly Instruction[]): Instruction[] {
  return [{ code: JEQ, k: number, jt: 0, jf: then.length }, ...then];
}

/** A clone that asks for a namespace is EPERM; the flags are the first argument on both architectures. */
function refuseFlags(): Instruction[] {
  return [
    { code: LD_ABS, k: ARGUMENT(0) },
    { code: AND, k: CLONE_NEW },
    { code: JEQ, k: 0, jt: 1, jf: 0 },
    { code: RET, k: ERRNO | EPERM },
    { code: RET, k: ALLOW },
  ];
}

/** Only unix and internet sockets; not AF_VSOCK (reaches the machine's host), AF_PACKET, AF_NETLINK, AF_ALG and the rest. */
function allowFamilies(): Instruction[] {
  const families = Object.values(ALLOWED_FAMILIES);
  return [
    { code: LD_ABS, k: ARGUMENT(0) },
    ...families.map((family, index) => ({
      code: JEQ,
      k: family,
      jt: families.length - index,
      jf: 0,
    })),
    { code: RET, k: ERRNO | EAFNOSUPPORT },
    { code: RET, k: ALLOW },
  ];
}

function refuseTerminalInput(): Instruction[] {
  return [
    { code: LD_ABS, k: ARGUMENT(1) },
    { code: JEQ, k: TIOCSTI, jt: 1, jf: 0 },
    { code: JEQ, k: TIOCLINUX, jt: 0, jf: 1 },
    { code: RET, k: ERRNO | EPERM },
    { code: RET, k: ALLOW },
  ];
}

/** struct sock_filter {u16 code; u8 jt; u8 jf; u32 k}, little-endian on both architectures. */
function assemble(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8);
  for (const [index, { code, jt = 0, jf = 0, k }] of program.entries()) {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(jt, index * 8 + 2);
    bytes.writeUInt8(jf, index * 8 + 3);
    bytes.writeUInt32LE(k >>> 0, index * 8 + 4);
  }
  return bytes;
}
