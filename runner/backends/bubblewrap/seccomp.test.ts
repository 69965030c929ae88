import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { seccompProgram } from './seccomp.ts';

const X64 = 0xc000003e;
const ARM64 = 0xc00000b7;
const I386 = 0x40000003;

interface Call {
  readonly arch: number;
  readonly number: number;
  readonly args?: readonly (number | bigint)[];
}

/** struct seccomp_data of linux/seccomp.h. */
function seccompData({ arch, number, args = [] }: Call): Buffer {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number >>> 0, 0);
  data.writeUInt32LE(arch >>> 0, 4);
  for (const [index, value] of args.entries())
    data.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), 16 + 8 * index);
  return data;
}

/** Runs a classic BPF program as the kernel does (net/core/filter.c), as far as seccomp allows it; counts the steps. */
function evaluate(program: Buffer, call: Call): { value: number; steps: number } {
  const data = seccompData(call);
  let accumulator = 0;
  let steps = 0;
  for (let at = 0; ; at++) {
    assert.ok(at * 8 < program.length, 'the program runs past its end');
    const code = program.readUInt16LE(at * 8);
    const [jt, jf] = [program.readUInt8(at * 8 + 2), program.readUInt8(at * 8 + 3)];
    const k = program.readUInt32LE(at * 8 + 4);
    steps += 1;
    if (code === 0x20) {
      assert.ok(k % 4 === 0 && k <= 60, 'loads are aligned and inside');
      accumulator = data.readUInt32LE(k);
    } else if (code === 0x15) at += accumulator === k ? jt : jf;
    else if (code === 0x35) at += accumulator >= k ? jt : jf;
    else if (code === 0x54) accumulator = (accumulator & k) >>> 0;
    else if (code === 0x06) return { value: k, steps };
    else assert.fail(`instruction ${code.toString(16)} is none that seccomp was given`);
  }
}

function verdict(program: Buffer, call: Call): string {
  const { value } = evaluate(program, call);
  const names: Record<number, string> = {
    0x7fff0000: 'ALLOW',
    0x80000000: 'KILL',
    0x00050001: 'EPERM',
    0x00050026: 'ENOSYS',
    0x00050061: 'EAFNOSUPPORT',
  };
  return names[value] ?? `0x${value.toString(16)}`;
}

/** Numbers are written out, from the kernel's tables, not taken from the program under test. */
const CALLS: readonly (readonly [
  string,
  number | undefined,
  number | undefined,
  string,
  (number | bigint)[]?,
])[] = [
  // name, x86_64, aarch64, verdict, arguments
  ['read', 0, 63, 'ALLOW'],
  ['write', 1, 64, 'ALLOW'],
  ['openat', 257, 56, 'ALLOW'],
  ['openat2', 437, 437, 'ALLOW'],
  ['mmap', 9, 222, 'ALLOW'],
  ['execve', 59, 221, 'ALLOW'],
  ['futex', 202, 98, 'ALLOW'],
  ['epoll_pwait', 281, 22, 'ALLOW'],
  ['connect', 42, 203, 'ALLOW'],
  ['prctl', 157, 167, 'ALLOW'],
  ['ptrace', 101, 117, 'EPERM'],
  ['process_vm_readv', 310, 270, 'EPERM'],
  ['process_vm_writev', 311, 271, 'EPERM'],
  ['pidfd_getfd', 438, 438, 'EPERM'],
  ['kcmp', 312, 272, 'EPERM'],
  ['mount', 165, 40, 'EPERM'],
  ['umount2', 166, 39, 'EPERM'],
  ['pivot_root', 155, 41, 'EPERM'],
  ['chroot', 161, 51, 'EPERM'],
  ['setns', 308, 268, 'EPERM'],
  ['unshare', 272, 97, 'EPERM'],
  ['open_tree', 428, 428, 'EPERM'],
  ['move_mount', 429, 429, 'EPERM'],
  ['fsopen', 430, 430, 'EPERM'],
  ['fsmount', 432, 432, 'EPERM'],
  ['mount_setattr', 442, 442, 'EPERM'],
  ['io_uring_setup', 425, 425, 'EPERM'],
  ['io_uring_enter', 426, 426, 'EPERM'],
  ['io_uring_register', 427, 427, 'EPERM'],
  ['keyctl', 250, 219, 'EPERM'],
  ['add_key', 248, 217, 'EPERM'],
  ['request_key', 249, 218, 'EPERM'],
  ['bpf', 321, 280, 'EPERM'],
  ['userfaultfd', 323, 282, 'EPERM'],
  ['perf_event_open', 298, 241, 'EPERM'],
  ['syslog', 103, 116, 'EPERM'],
  ['open_by_handle_at', 304, 265, 'EPERM'],
  ['kexec_load', 246, 104, 'EPERM'],
  ['init_module', 175, 105, 'EPERM'],
  ['finit_module', 313, 273, 'EPERM'],
  ['delete_module', 176, 106, 'EPERM'],
  ['reboot', 169, 142, 'EPERM'],
  ['settimeofday', 164, 170, 'EPERM'],
  ['clock_settime', 227, 112, 'EPERM'],
  ['sethostname', 170, 161, 'EPERM'],
  ['iopl', 172, undefined, 'EPERM'],
  ['personality', 135, 92, 'EPERM'],
  ['clone3', 435, 435, 'ENOSYS'],
  ['clone of a process', 56, 220, 'ALLOW', [17]],
  ['clone of a thread', 56, 220, 'ALLOW', [0x3d0f00]],
  ['clone with a user namespace', 56, 220, 'EPERM', [0x10000000 | 17]],
  ['clone with a network namespace', 56, 220, 'EPERM', [0x40000000]],
  ['clone with a mount namespace', 56, 220, 'EPERM', [0x00020000]],
  ['clone with a cgroup namespace', 56, 220, 'EPERM', [0x02000000]],
  ['a unix socket', 41, 198, 'ALLOW', [1, 1, 0]],
  ['an internet socket', 41, 198, 'ALLOW', [2, 2, 17]],
  ['an IPv6 socket', 41, 198, 'ALLOW', [10, 1, 0]],
  ['a netlink socket', 41, 198, 'EAFNOSUPPORT', [16, 3, 0]],
  ['a packet socket', 41, 198, 'EAFNOSUPPORT', [17, 3, 0]],
  ['a vsock socket', 41, 198, 'EAFNOSUPPORT', [40, 1, 0]],
  ['an AF_ALG socket', 41, 198, 'EAFNOSUPPORT', [38, 5, 0]],
  ['a socket of family 0', 41, 198, 'EAFNOSUPPORT', [0, 1, 0]],
  // The kernel reads the family as an int: what stands above it does not count.
  ['a vsock socket with high bits', 41, 198, 'EAFNOSUPPORT', [(1n << 32n) | 40n, 1, 0]],
  ['a pair of unix sockets', 53, 199, 'ALLOW', [1, 1, 0]],
  ['a pair of another family', 53, 199, 'EAFNOSUPPORT', [16, 1, 0]],
  ['ioctl TIOCGWINSZ', 16, 29, 'ALLOW', [0, 0x5413]],
  ['ioctl TIOCSTI', 16, 29, 'EPERM', [0, 0x5412]],
  ['ioctl TIOCLINUX', 16, 29, 'EPERM', [0, 0x541c]],
  ['ioctl TIOCSTI with high bits', 16, 29, 'EPERM', [0, (1n << 32n) | 0x5412n]],
  ['a call that no kernel has', 9_999, 9_999, 'ALLOW'],
];

for (const [arch, name, column] of [
  [X64, 'x64', 1],
  [ARM64, 'arm64', 2],
] as const)
  describe(`the program for ${name}`, () => {
    const program = seccompProgram(name) ?? Buffer.alloc(0);

    for (const call of CALLS) {
      const number = call[column];
      if (number === undefined) continue;
      test(`${call[3]} ${call[0]}`, () => {
        assert.equal(verdict(program, { arch, number, args: call[4] ?? [] }), call[3]);
      });
    }

    test('ends a process that calls as another architecture does', () => {
      for (const other of [I386, arch === X64 ? ARM64 : X64, 0])
        assert.equal(verdict(program, { arch: other, number: 0 }), 'KILL');
    });

    test('is of a size that the kernel takes, and every path ends', () => {
      assert.ok(program.length > 0 && program.length % 8 === 0 && program.length / 8 <= 4_096);
      for (let number = 0; number < 512; number++)
        assert.ok(evaluate(program, { arch, number }).steps <= program.length / 8);
    });
  });

test('x32, which shares the architecture of x86_64, is ended whatever it calls', () => {
  const program = seccompProgram('x64') ?? Buffer.alloc(0);
  for (const number of [0x40000000, 0x40000000 + 101, 0x40000000 + 521, 0xffffffff])
    assert.equal(verdict(program, { arch: X64, number }), 'KILL');
  assert.equal(verdict(program, { arch: X64, number: 0x3fffffff }), 'ALLOW');
});

test('an architecture without a table has no program', () => {
  for (const arch of ['ia32', 'riscv64', '']) assert.equal(seccompProgram(arch), undefined, arch);
});
