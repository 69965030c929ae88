import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { asUser } from '#core/test-user';

// What holds for somebody who is not root and to whom the host gives no control groups. Run by root, as `.ci/run` does.

/** Who is nobody here: no name, no home, no control group. */
const USER = 23_456;
const SUITES = ['runner/backends/bubblewrap/backend.test.ts', 'runner/exec-service.test.ts'];
const WITHIN_MS = 240_000;

for (const suite of SUITES)
  test(`C9: as an ordinary user ${suite} holds`, () => {
    const temporary = mkdtempSync(join(tmpdir(), 'o-'));
    try {
      assert.equal(spawnSync('chown', [`${USER}:${USER}`, temporary]).status, 0);
      const argv = ['--conditions=outrider-source', '--test', '--test-reporter=tap', suite];
      const [command = '', ...words] = asUser(USER, temporary, [process.execPath, ...argv]);
      const { status, stdout } = spawnSync(command, words, {
        env: { PATH: process.env['PATH'], HOME: temporary, TMPDIR: temporary },
        encoding: 'utf8',
        timeout: WITHIN_MS,
      });
      assert.equal(status, 0, failuresIn(stdout));
      assert.ok(Number(/^# pass (\d+)$/m.exec(stdout)?.[1]) >= 20, 'control: it has run');
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
  });

/** The facts that did not hold, with what was said of each. */
function failuresIn(tap: string): string {
  const lines = tap.split('\n');
  return lines
    .flatMap((line, at) => (/^\s*not ok /.test(line) ? lines.slice(at, at + 25) : []))
    .join('\n')
    .slice(0, 8_000);
}
