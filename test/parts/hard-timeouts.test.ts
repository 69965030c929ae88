import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type ExecEnd, KilledBy } from '#proto';
import { residueOf, strangersIn } from '../support/residue.ts';
import { type RunnerMesh, startRunnerMesh } from '../support/runner-mesh.ts';

/** What will not end by itself, on every backend: a real engine and real gVisor. */

const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 30s, memory: 768MiB, disk: 32MiB, pids: 32, profiles: [python, node]}
`;
const BACKENDS = ['bubblewrap', 'docker', 'gvisor'] as const;
const TIMEOUT_MS = 2_000;
/** None of the programs ends by itself, and a machine may be busy: this only tells an end from none. */
const LATE_MS = 40_000;

/** Each says that it is up before it goes on for ever. */
const PROGRAMS: readonly (readonly [what: string, language: 'python' | 'javascript', string])[] = [
  ['an endless loop', 'python', 'print("up", flush=True)\nwhile True: pass'],
  ['an endless loop of Node', 'javascript', 'console.log("up"); for (;;);'],
  [
    'a child that ignores SIGTERM and every other signal that it can',
    'python',
    `import signal, subprocess, sys
child = """
import signal
for number in range(1, 32):
    try: signal.signal(number, signal.SIG_IGN)
    except OSError: pass
print("up", flush=True)
while True: pass
"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.run([sys.executable, "-c", child])`,
  ],
  [
    'a fork bomb',
    'python',
    `import os
print("up", flush=True)
while True:
    try: os.fork()
    except OSError: pass`,
  ],
  [
    'a daemon, forked twice in a session of its own, and its parent that waits',
    'python',
    `import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("up", flush=True)
        while True: time.sleep(0.01)
    os._exit(0)
time.sleep(600)`,
  ],
];

let mesh: RunnerMesh;
before(async () => {
  mesh = await startRunnerMesh({
    policies: POLICIES,
    argv: ['--backends', BACKENDS.join(','), '--pool-size', '0'],
  });
});
after(() => mesh.stop());

for (const backend of BACKENDS)
  describe(`C5: by its time-out on ${backend} is ended, and leaves nothing`, () => {
    for (const [what, language, code] of PROGRAMS)
      test(what, async () => {
        const profile = language === 'python' ? 'python' : 'node';
        const { responses } = mesh.client.exec({
          code,
          language,
          profile,
          backend,
          timeoutMs: TIMEOUT_MS,
        });
        let from = 0;
        let sandboxId = '';
        let up = '';
        let end: ExecEnd | undefined;
        for await (const response of responses) {
          if (response.$case === 'started') {
            from = performance.now();
            ({ sandboxId } = response.value);
          } else if (response.$case === 'stdout') {
            up += response.value.data.toString();
            const seen = JSON.stringify(residueOf(mesh));
            assert.ok(seen.includes(sandboxId), 'control: while it runs it can be seen');
          } else if (response.$case === 'end') end = response.value;
        }
        const tookMs = performance.now() - from;
        assert.match(up, /^up\n/, 'control: it has come so far');
        assert.deepEqual(
          [end?.killedBy, end?.errorCode],
          [KilledBy.TIMEOUT, 'DEADLINE_EXCEEDED'],
          end?.detail,
        );
        assert.ok(tookMs < TIMEOUT_MS + LATE_MS, `${Math.round(tookMs)} ms`);
        assert.deepEqual(await strangersIn(mesh), {});
      });
  });
