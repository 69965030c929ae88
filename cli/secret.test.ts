import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { outriderArgv } from '#core/testing/outrider-argv';
import { proxySpec } from '#proxy/config';
import { createSecrets, readKeyRing } from '#proxy/secrets';

const VALUE = 'value-3d8e61b7c0';

/** The command as a process, with a state directory of its own. */
function place(t: TestContext) {
  const state = mkdtempSync(join(tmpdir(), 'outrider-secret-'));
  t.after(() => rmSync(state, { recursive: true }));
  const start = (argv: readonly string[], env: Record<string, string> = {}) =>
    spawn(process.execPath, [...outriderArgv(), 'secret', ...argv], {
      env: { PATH: process.env['PATH'], HOME: state, OUTRIDER_STATE_DIR: state, ...env },
    });
  const outrider = async (
    argv: readonly string[],
    stdin = '',
    env: Record<string, string> = {},
  ) => {
    const child = start(argv, env);
    const said = { stdout: '', stderr: '' };
    child.stdout.on('data', (chunk: Buffer) => (said.stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (said.stderr += chunk.toString()));
    child.stdin.on('error', () => {}); // it may end without reading
    child.stdin.end(stdin);
    const [code]: unknown[] = await once(child, 'close');
    return { code, ...said };
  };
  const spec = proxySpec({ runtime: state, state });
  const read = (ref: string) =>
    createSecrets({
      directory: state,
      env: {},
      store: {
        directory: spec['secretStore.dir'].default ?? '',
        ring: () => readKeyRing(spec['secretStore.key'].default ?? '', {}),
      },
    }).read(ref);
  return { state, start, outrider, read };
}

test('a secret is set from stdin, read by the proxy, listed without its value, rotated and removed', async (t) => {
  const { state, outrider, read } = place(t);
  const set = await outrider(['set', 'store:main:TOKEN'], `${VALUE}\n`);
  assert.equal(set.code, 0, set.stderr);
  assert.equal(read('store:main:TOKEN'), VALUE);
  assert.equal((await outrider(['rotate', 'store:main:TOKEN'], 'another')).code, 0);
  assert.equal(read('store:main:TOKEN'), 'another');
  const listed = await outrider(['list']);
  assert.match(listed.stdout, /^\d{4}-\S+ {2}store:main:TOKEN\n$/);
  const [shown] = JSON.parse((await outrider(['list', '--json'])).stdout);
  assert.equal(shown.slot, 'store:main:TOKEN');
  assert.equal((await outrider(['rotate', '--key'])).code, 0);
  assert.equal(read('store:main:TOKEN'), 'another');
  for (const { stdout, stderr } of [set, listed]) {
    assert.ok(!stdout.includes(VALUE) && !stderr.includes(VALUE));
    assert.ok(!stdout.includes('another'));
  }
  const everything = readdirSync(state, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile())
    .map((file) => readFileSync(join(file.parentPath, file.name), 'latin1'));
  assert.ok(everything.length >= 2 && !everything.join('').includes('another'));
  assert.equal((await outrider(['rm', 'store:main:TOKEN'])).code, 0);
  assert.throws(() => read('store:main:TOKEN'), { code: 'CREDENTIAL_UNAVAILABLE' });
});

const refusals: readonly (readonly [string, readonly string[], string, number, RegExp])[] = [
  ['a value as an argument', ['set', 'store:main:T', VALUE], '', 2, /stdin/],
  ['a value behind an option', ['set', 'store:main:T', `--value=${VALUE}`], '', 2, /option/],
  ['a slot that is none', ['set', 'T'], VALUE, 1, /store:<instance>:<NAME>/],
  ['no slot', ['set'], VALUE, 2, /which slot/],
  ['no value', ['set', 'store:main:T'], '', 1, /empty/],
  ['two lines', ['set', 'store:main:T'], 'a\nb\n', 1, /control/],
  ['a rotation of what is not there', ['rotate', 'store:main:T'], VALUE, 1, /no store:main:T/],
  ['a removal of what is not there', ['rm', 'store:main:T'], '', 1, /no store:main:T/],
  ['another verb', ['get', 'store:main:T'], '', 2, /no such command/],
  ['nothing', [], '', 2, /usage/],
];
for (const [what, argv, stdin, code, says] of refusals)
  test(`${what} is refused, without a stack and without the value`, async (t) => {
    const { outrider } = place(t);
    const ended = await outrider(argv, stdin);
    assert.equal(ended.code, code, ended.stderr);
    assert.match(ended.stderr, says);
    assert.ok(!ended.stderr.includes(VALUE) && !ended.stderr.includes('\n    at '));
    assert.equal(ended.stdout, '');
    assert.deepEqual(JSON.parse((await outrider(['list', '--json'])).stdout), []);
  });

test('writers at once lose nothing, on a machine that has no key yet', async (t) => {
  const { outrider, read } = place(t);
  const names = Array.from({ length: 6 }, (_, number) => `store:main:N${number}`);
  const ends = await Promise.all(names.map((name) => outrider(['set', name], `of-${name}`)));
  assert.deepEqual(
    ends.map(({ code }) => code),
    names.map(() => 0),
  );
  for (const name of names) assert.equal(read(name), `of-${name}`);
});

test('a key that is gone is missed, not replaced, while there is something that it sealed', async (t) => {
  const { outrider, read, state } = place(t);
  assert.equal((await outrider(['set', 'store:main:OLD'], VALUE)).code, 0);
  const [key, away] = [join(state, 'secret-store.key'), join(state, 'away')];
  renameSync(key, away);
  const refused = await outrider(['set', 'store:main:NEW'], VALUE);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /bring the key back/);
  renameSync(away, key);
  assert.equal((await outrider(['set', 'store:main:NEW'], VALUE)).code, 0);
  assert.equal(read('store:main:OLD'), VALUE);
});

test('what the process list shows of a running command is the slot and no value', async (t) => {
  const { start } = place(t);
  const child = start(['set', 'store:main:TOKEN']);
  child.stdin.write(VALUE);
  const cmdline = readFileSync(`/proc/${child.pid}/cmdline`, 'utf8');
  const environ = readFileSync(`/proc/${child.pid}/environ`, 'utf8');
  assert.ok(cmdline.includes('store:main:TOKEN'));
  assert.ok(!cmdline.includes(VALUE) && !environ.includes(VALUE));
  child.stdin.end();
  assert.deepEqual((await once(child, 'close'))[0], 0);
});
