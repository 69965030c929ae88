import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { outriderArgv } from '#core/testing/outrider-argv';

const run = (...argv: string[]) =>
  promisify(execFile)(process.execPath, [...outriderArgv(), ...argv]);

test('each command explains itself with --help, on stdout, and ends with 0', async () => {
  const { stdout: all } = await run('--help');
  const listed = [...all.matchAll(/^ {2}([a-z|]+)(?: |$)/gm)].flatMap(([, names = '']) =>
    names.split('|'),
  );
  assert.ok(listed.includes('proxy') && listed.includes('mcp') && listed.length >= 16, all);
  for (const name of listed) {
    const { stdout, stderr } = await run(name, '--help');
    assert.match(stdout, new RegExp(`^(?:usage: )?outrider ${name}`), name);
    assert.equal(stderr, '', name);
  }
});

test('a part tells its options with their defaults', async () => {
  const { stdout } = await run('proxy', '--help');
  assert.match(stdout, /^ {2}--policies <text> \(required\)$/m);
  assert.match(stdout, /^ {2}--connect-timeout <duration \(ms, s, m, h\)> \(default 10s\)$/m);
  assert.match(stdout, /^ {2}--insecure \(default false\)$/m);
});
