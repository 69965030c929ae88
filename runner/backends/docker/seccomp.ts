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

interface Condition {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: 'SCMP_CMP_EQ' | 'SCMP_CMP_GT' | 'SCMP_CMP_MASKED_EQ';
}

interface Refusal {
  readonly names: readonly string[];
  readonly action: 'SCMP_ACT_ERRNO';
  readonly errnoRet: number;
  readonly args?: readonly Condition[];
}

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'SCMP_ARCH_X86_64',
  arm64: 'SCMP_ARCH_AARCH64',
};

/**
 * The seccomp rules of a box as an engine's profile (the OCI runtime specification's `linux.seccomp`), as JSON. Calls of another
 * architecture than the machine's own end the process. Undefined where the architecture has no rules: then no box may be made.
 */
export function seccompProfile(arch: string): string | undefined {
  const architecture = ARCHITECTURES[arch];
  if (architecture === undefined) return undefined;
  const refuse = (
    names: readonly string[],
    errnoRet: number,
    ...args: readonly Condition[]
  ): Refusal => ({
    names,
    action: 'SCMP_ACT_ERRNO',
    errnoRet,
    ...(args.length > 0 ? { args } : {}),
  });
  return JSON.stringify({
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: [architecture],
    syscalls: [
      refuse(REFUSED, EPERM),
      refuse(ABSENT, ENOSYS),
      ...bitsOf(CLONE_NEW).map((bit) => refuse(['clone'], EPERM, masked(0, bit, bit))),
      ...refusedFamilies().map((condition) =>
        refuse(['socket', 'socketpair'], EAFNOSUPPORT, condition),
      ),
      // The kernel reads the request as an int: what stands above it does not count.
      ...[TIOCSTI, TIOCLINUX].map((request) =>
        refuse(['ioctl'], EPERM, masked(1, 0xffffffff, request)),
      ),
    ],
  });
}

/** A rule has one condition on each argument, so that "none of these" is said as the gaps between them. */
function refusedFamilies(): Condition[] {
  const allowed: readonly number[] = Object.values(ALLOWED_FAMILIES);
  const most = Math.max(...allowed);
  const gaps = Array.from({ length: most }, (_, family) => family).filter(
    (family) => !allowed.includes(family),
  );
  return [
    ...gaps.map((value) => ({ index: 0, value, op: 'SCMP_CMP_EQ' }) as const),
    { index: 0, value: most, op: 'SCMP_CMP_GT' },
  ];
}

function masked(index: number, value: number, valueTwo: number): Condition {
  return { index, value, valueTwo, op: 'SCMP_CMP_MASKED_EQ' };
}

function bitsOf(mask: number): number[] {
  return Array.from({ length: 31 }, (_, bit) => 2 ** bit).filter((bit) => (mask & bit) !== 0);
}
