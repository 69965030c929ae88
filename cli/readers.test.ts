import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { temporaryDirectory } from '#core/testing/directory';
import { outriderArgv } from '#core/testing/outrider-argv';

/** More than a pipe holds. */
function audit(t: TestContext): string {
  const path = join(temporaryDirectory(t), 'audit.jsonl');
  const line = JSON.stringify({ time: '2026-11-23T13:00:00.000Z', subject: 'a'.repeat(1_000) });
  writeFileSync(path, `${line}\n`.repeat(1_000));
  return path;
}

function start(argv: readonly string[], stdout: 'pipe' | number): ChildProcess {
  return spawn(process.execPath, [...outriderArgv(), ...argv], {
    stdio: ['ignore', stdout, 'pipe'],
  });
}

async function end(child: ChildProcess) {
  const said = child.stderr ? text(child.stderr) : '';
  const [code] = await once(child, 'exit');
  return { code, stderr: await said };
}

test('whoever reads no more ends a command without a word, as `| head` does', async (t) => {
  for (const argv of [['audit', 'search', audit(t)], ['--help']]) {
    const child = start(argv, 'pipe');
    child.stdout?.destroy();
    assert.deepEqual(await end(child), { code: 141, stderr: '' }, argv.join(' '));
  }
});

test('what cannot be written for another reason is told in one line', {
  skip: !existsSync('/dev/full') && 'there is no /dev/full',
}, async (t) => {
  const { code, stderr } = await end(
    start(['audit', 'search', audit(t)], openSync('/dev/full', 'w')),
  );
  assert.equal(code, 1);
  assert.match(stderr, /^outrider: standard output cannot be written \(ENOSPC\)\n$/);
});

test('control: with a reader all of it is written', async (t) => {
  const child = start(['audit', 'search', audit(t)], 'pipe');
  const [all, { code }] = await Promise.all([child.stdout && text(child.stdout), end(child)]);
  assert.equal(code, 0);
  assert.equal(all?.split('\n').length, 1_001);
});
