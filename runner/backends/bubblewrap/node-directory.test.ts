import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { nodeDirectory } from './node-directory.ts';

test("it is the project's own where boxes are the same user, or may enter it", () => {
  const directory = nodeDirectory(false);
  assert.ok(statSync(join(directory, 'node')).isFile());
});

test('what others may not enter is made once, whole, where they may', (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'o-'));
  t.after(() => rmSync(parent, { recursive: true, force: true }));
  chmodSync(parent, 0o755);
  const cache = join(parent, 'cache');
  const made = nodeDirectory(true, cache, () => false);
  assert.equal(
    nodeDirectory(true, cache, () => false),
    made,
  );
  assert.deepEqual(readdirSync(cache), [`node-${process.version.slice(1)}`]);
  assert.equal(statSync(made).mode & 0o777, 0o755);
  const { stdout } = spawnSync(join(made, 'node'), ['--version'], { encoding: 'utf8' });
  assert.equal(stdout.trim(), process.version);
});
