import { Random } from '../support/random.ts';

/** What goes wrong, and how often beside the others: a part takes everything with it, so it is killed rarely. */
const KINDS = [
  ['gone', 25], // the client's connection is cut, as when its process is killed
  ['cancel', 15], // the call is cancelled
  ['cancelExec', 15], // another call cancels the exec by its id
  ['deadline', 15], // the call's deadline passes
  ['timeout', 12], // the exec's time limit is reached
  ['agent', 15], // kill -9 of the sandbox's first process
  ['runner', 1], // kill -9, then a supervisor starts it again
  ['launcher', 1],
  ['sidecar', 1],
] as const;
export type Kind = (typeof KINDS)[number][0];

/** Programs that are in the middle of something. `ends` marks those that may be over before they are killed. */
export const PROGRAMS = {
  idle: { ends: [], code: 'import time\nwhile True: time.sleep(60)' },
  spin: { ends: [], code: 'while True: pass' },
  flood: { ends: [], code: 'import os\nwhile True: os.write(1, b"x" * 65536)' },
  deaf: {
    ends: [],
    code: `import signal, time
for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)
while True: time.sleep(60)`,
  },
  daemons: {
    ends: [],
    code: `import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(60)
        os._exit(0)
while True: time.sleep(60)`,
  },
  files: {
    ends: [],
    code: `import os
n = 0
while True:
    n += 1
    with open(f"/output/{n % 50}", "w") as file: file.write("x" * 4096)`,
  },
  children: {
    ends: [],
    code: `import subprocess
while True: subprocess.run(["/bin/sh", "-c", "sleep 0.01 & sleep 0.02"])`,
  },
  stdin: { ends: ['exit'], code: 'import sys\nprint(len(sys.stdin.read()))' },
  memory: { ends: ['oom'], code: 'kept = []\nwhile True: kept.append(bytearray(1 << 20))' },
  quick: { ends: ['exit'], code: 'print(6 * 7)' },
  fails: { ends: ['exit'], code: 'raise ValueError("no")' },
} as const satisfies Record<string, { ends: readonly string[]; code: string }>;
export type ProgramName = keyof typeof PROGRAMS;

/** One program and what happens to it, this long after it was asked for or had started. */
export interface Kill {
  readonly index: number;
  readonly kind: Kind;
  readonly program: ProgramName;
  readonly afterMs: number;
  readonly since: 'request' | 'started';
}

/**
 * The first `count` kills of this seed: the same in every run, each kind among the first. Moments reach from before the claim to
 * well into the program. Where each sandbox has a sidecar of its own (`sharing: none`), sidecars are killed as often as agents.
 */
export function planOf(seed: number, count: number, sharing: 'host' | 'none' = 'host'): Kill[] {
  const random = new Random(seed);
  const kinds = KINDS.map(
    ([kind, weight]) => [kind, kind === 'sidecar' && sharing === 'none' ? 15 : weight] as const,
  );
  const programs = Object.keys(PROGRAMS) as ProgramName[]; // oxlint-disable-line typescript/no-unsafe-type-assertion -- the keys of that very table
  return Array.from({ length: count }, (_, index) => ({
    index,
    kind: random.weighted(index < kinds.length ? kinds.slice(index, index + 1) : kinds),
    program: random.weighted(programs.map((name) => [name, 1] as const)),
    afterMs: random.logarithmic(0.3, 300),
    since: random.weighted([
      ['request', 1],
      ['started', 1],
    ] as const),
  }));
}
