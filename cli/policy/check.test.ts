import assert from 'node:assert/strict';
import { test } from 'node:test';
import { directoryOf, QUICKSTART, run, runJson } from './testing.ts';

test('check says that the quickstart is sound, in words and as JSON', async () => {
  const words = await run('check', QUICKSTART);
  assert.equal(words.code, 0);
  assert.match(
    words.out,
    /^ok: 6 documents in 5 files, \d+ test cases passed\ndigest [0-9a-f]{64}\n$/,
  );
  const { code, json } = await runJson('check', QUICKSTART);
  assert.equal(code, 0);
  assert.deepEqual([json['ok'], json['documents']], [true, 6]);
});

test('check names file, line, column and the right spelling of what is wrong, and exits 1', async (t) => {
  const directory = directoryOf(t, { 'a.yaml': 'apiVersion: outrider/v1\nkind: Rolle\n' });
  const words = await run('check', directory);
  assert.deepEqual([words.code, words.out], [1, '']);
  assert.match(words.err, /^a\.yaml:2:7: .*\(did you mean "Role"\?\)\n$/);
  const { code, json } = await runJson('check', directory);
  assert.deepEqual([code, json['code']], [1, 'POLICY_INVALID']);
  const [{ file, line, column, message }, ...more] = Object(json['findings']);
  assert.deepEqual([file, line, column, more.length], ['a.yaml', 2, 7, 0]);
  assert.equal(Object(json['problems'])[0], `a.yaml:2:7: ${message}`);
});
