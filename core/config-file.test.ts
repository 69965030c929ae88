import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { takeConfigFile } from './config-file.ts';
import { temporaryDirectory } from './testing/directory.ts';

test('--config is taken out and read, wherever it stands and however it is spelt', (t) => {
  const root = temporaryDirectory(t);
  const name = join(root, 'a.yaml');
  writeFileSync(name, 'up: {}');
  const file = { name, text: 'up: {}' };
  assert.deepEqual(takeConfigFile(['--x', '1']), { argv: ['--x', '1'], file: undefined });
  assert.deepEqual(takeConfigFile(['--config', name, '--x', '1']), { argv: ['--x', '1'], file });
  assert.deepEqual(takeConfigFile(['--x', '1', `--config=${name}`]), { argv: ['--x', '1'], file });
});

test('a file that is not named or cannot be read says so', () => {
  for (const argv of [['--config'], ['--config='], ['--config', '/does/not/exist']])
    assert.throws(() => takeConfigFile(argv), { code: 'CONFIG_INVALID' });
});
