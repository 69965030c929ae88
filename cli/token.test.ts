import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { temporaryDirectory } from '#core/testing/directory';
import { token } from './token.ts';

async function run(state: string) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const code = await token([], { OUTRIDER_STATE_DIR: state }, out, err);
  return { code, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}

test('the token is printed; where there is none, it says where it looked and why there is none', async (t) => {
  const state = temporaryDirectory(t);
  const path = join(state, 'token');
  const missing = await run(state);
  assert.equal(missing.code, 1);
  assert.ok(missing.err.includes(path) && missing.err.includes('npm start'), missing.err);
  assert.ok(missing.err.includes('OUTRIDER_STATE_DIR'), missing.err);

  writeFileSync(path, 'outrider_secret\n');
  assert.deepEqual(await run(state), { code: 0, out: 'outrider_secret\n', err: '' });

  writeFileSync(path, '\n');
  const empty = await run(state);
  assert.deepEqual([empty.code, empty.out], [1, '']);
  assert.match(empty.err, /it is empty/);

  mkdirSync(join(state, 'else', 'token'), { recursive: true });
  const unreadable = await run(join(state, 'else'));
  assert.equal(unreadable.code, 1);
  assert.match(unreadable.err, /cannot be read \(EISDIR\)/);
  assert.doesNotMatch(unreadable.err, /npm start/, 'a mesh that runs is not to be started');
});
