import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REFUSED } from '../seccomp-rules.ts';
import { seccompProfile } from './seccomp.ts';

interface Rule {
  names: string[];
  action: string;
  errnoRet: number;
  args?: { index: number; value: number; valueTwo?: number; op: string }[];
}

const profile: { defaultAction: string; architectures: string[]; syscalls: Rule[] } = JSON.parse(
  seccompProfile('x64') ?? '{}',
);

/** What libseccomp makes of the rules: the first that meets the call. Arguments are 64 bits wide. */
function errnoOf(name: string, ...values: bigint[]): number {
  const meets = ({ index, value, valueTwo = 0, op }: NonNullable<Rule['args']>[number]) => {
    const argument = values[index] ?? 0n;
    if (op === 'SCMP_CMP_EQ') return argument === BigInt(value);
    if (op === 'SCMP_CMP_GT') return argument > BigInt(value);
    assert.equal(op, 'SCMP_CMP_MASKED_EQ');
    return (argument & BigInt(value)) === BigInt(valueTwo);
  };
  const rule = profile.syscalls.find(
    ({ names, args = [] }) => names.includes(name) && args.every(meets),
  );
  return rule?.errnoRet ?? 0;
}

test('only calls of the machine itself are allowed, and those that no rule names', () => {
  assert.equal(profile.defaultAction, 'SCMP_ACT_ALLOW');
  assert.deepEqual(profile.architectures, ['SCMP_ARCH_X86_64']);
  assert.equal(errnoOf('read'), 0);
});

test('every call that bubblewrap refuses is refused here, with the same error', () => {
  for (const name of REFUSED) assert.equal(errnoOf(name), 1, name);
  assert.equal(errnoOf('clone3'), 38);
});

for (const [what, name, values, errno] of [
  ['a process', 'clone', [17n], 0],
  ['a thread', 'clone', [0x3d0f00n], 0],
  ['a user namespace', 'clone', [0x10000011n], 1],
  ['a network namespace', 'clone', [0x40000000n], 1],
  ['a mount namespace among others', 'clone', [0x7e020000n], 1],
  ['a unix socket', 'socket', [1n], 0],
  ['an internet socket', 'socket', [2n], 0],
  ['an IPv6 socket', 'socket', [10n], 0],
  ['a netlink socket', 'socket', [16n], 97],
  ['a vsock socket', 'socket', [40n], 97],
  ['a vsock socket with high bits', 'socket', [(1n << 32n) | 40n], 97],
  ['a socket of family 0', 'socket', [0n], 97],
  ['a socket of family 9', 'socketpair', [9n], 97],
  ['the size of a terminal', 'ioctl', [0n, 0x5413n], 0],
  ['TIOCSTI', 'ioctl', [0n, 0x5412n], 1],
  ['TIOCLINUX with high bits', 'ioctl', [0n, (1n << 32n) | 0x541cn], 1],
] as const)
  test(`${errno === 0 ? 'allows' : 'refuses'} ${what}`, () => {
    assert.equal(errnoOf(name, ...values), errno);
  });

test('an architecture without rules has no profile', () => {
  assert.equal(seccompProfile('riscv64'), undefined);
});
