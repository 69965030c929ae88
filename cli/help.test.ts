import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { outriderArgv } from '#core/testing/outrider-argv';
import manifest from '../package.json' with { type: 'json' };

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

test('help is found where one looks for it, and wrong usage leaves stdout empty', async () => {
  for (const argv of [
    ['config', 'check', '--help'],
    ['config', '-h'],
    ['help', 'config'],
    ['audit', 'tail', '-h'],
    ['keys', '-h'],
    ['gateway', '-h'],
  ]) {
    const { stdout, stderr } = await run(...argv);
    assert.match(stdout, /^usage: outrider (?:config|audit|keys|gateway) /, argv.join(' '));
    assert.equal(stderr, '', argv.join(' '));
  }
  await assert.rejects(run(), ({ code, stdout, stderr }) => {
    assert.deepEqual([code, stdout], [2, '']);
    return stderr.startsWith('usage: outrider COMMAND');
  });
});

test('the version is that of the package, on stdout', async () => {
  for (const how of ['--version', '-v', 'version']) {
    const { stdout, stderr } = await run(how);
    assert.equal(stdout, `outrider ${manifest.version} (Node ${process.version})\n`, how);
    assert.equal(stderr, '');
  }
});

test('`up` tells every option that it has', async () => {
  const { stdout } = await run('up', '--help');
  for (const option of ['policies', 'policy-keys', 'policy-require', 'sharing', 'user', 'config'])
    assert.match(stdout, new RegExp(`^ {2}--${option} `, 'm'));
});

test('a part tells its options with their defaults', async () => {
  const { stdout } = await run('proxy', '--help');
  assert.match(stdout, /^ {2}--policies <text> \(required\)$/m);
  assert.match(
    stdout,
    /^ {2}--connect-timeout <duration \(ms, s, m, h\) from 1ms> \(default 10s\)$/m,
  );
  assert.match(stdout, /^ {2}--insecure \(default false\)$/m);
});
