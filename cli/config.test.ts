import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { config } from './config.ts';

function filesOf(t: TestContext, ...texts: readonly string[]): string[] {
  const root = mkdtempSync(join(tmpdir(), 'outrider-config-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  return texts.map((text, index) => {
    const path = join(root, `${index}.yaml`);
    writeFileSync(path, text);
    return path;
  });
}

async function run(argv: readonly string[], env: Record<string, string> = {}) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const code = await config(argv, { HOME: '/nowhere', ...env }, out, err);
  return { code, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}

test('a file in order is said to be, and everything wrong with another at once', async (t) => {
  const [good = '', bad = ''] = filesOf(
    t,
    'gateway: {listen: "127.0.0.1:1", maxBody: "${SIZE:-1MiB}"}\nserver: {maxBody: 2MiB}\n',
    'gateway: {lisen: x, maxBody: much}\nserver: {maxBody: 1}\nproxi: {}\nrunner: {poolSize: -1}\n',
  );
  assert.deepEqual(await run(['check', good]), {
    code: 0,
    out: `${good}: nothing wrong\n`,
    err: '',
  });
  const { code, err } = await run(['check', bad]);
  assert.equal(code, 1);
  for (const problem of [
    /gateway\.lisen.*did you mean/,
    /gateway\.maxBody/,
    /"proxi"/,
    /runner\.poolSize/,
  ])
    assert.match(err, problem);
  assert.equal((await run(['check', good], { SIZE: 'much' })).code, 1, 'as it would be read here');
});

test('two files are told apart by their keys, and by what can change while it runs', async (t) => {
  const [old = '', next = '', same = ''] = filesOf(
    t,
    'gateway: {servers: ["http://a:1/mcp"], maxBody: 1MiB}\n',
    'gateway: {servers: ["http://b:1/mcp"], maxBody: 2MiB}\n',
    'gateway:\n  maxBody: 1048576\n  servers: [http://a:1/mcp]\n',
  );
  const { code, out } = await run(['diff', old, next]);
  assert.equal(code, 1);
  assert.equal(
    out,
    'gateway.servers: ["http://a:1/mcp"] -> ["http://b:1/mcp"] (taken over while it runs)\n' +
      'gateway.maxBody: 1048576 -> 2097152 (needs a restart)\n',
  );
  assert.deepEqual(await run(['diff', old, same]), { code: 0, out: '', err: '' });
});

test('wrong usage is 2, a missing file 1', async (t) => {
  const [file = ''] = filesOf(t, '');
  for (const argv of [[], ['check'], ['diff', file], ['check', file, file], ['chek', file]])
    assert.equal((await run(argv)).code, 2, argv.join(' '));
  assert.equal((await run(['check', '/does/not/exist'])).code, 1);
  assert.equal((await run(['--help'])).code, 0);
});
