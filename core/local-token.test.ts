import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readLocalToken } from './local-token.ts';
import { temporaryDirectory } from './testing/directory.ts';

const TOKEN = 'k3J9s-'.repeat(6);

test('the token of the file is the local one, and nothing else is', (t) => {
  const path = join(temporaryDirectory(t), 'token');
  writeFileSync(path, `${TOKEN}\n`, { mode: 0o600 });
  const isLocal = readLocalToken(path);
  assert.ok(isLocal);
  assert.equal(isLocal(TOKEN), true);
  for (const other of ['', TOKEN.slice(1), `${TOKEN}x`, TOKEN.toUpperCase(), `${TOKEN}\n`])
    assert.equal(isLocal(other), false, JSON.stringify(other));
});

test('without the file there is no local token', (t) => {
  assert.equal(readLocalToken(join(temporaryDirectory(t), 'absent')), undefined);
});

test('a file that others may read is refused, until it is theirs no more', (t) => {
  const path = join(temporaryDirectory(t), 'token');
  writeFileSync(path, TOKEN);
  for (const mode of [0o640, 0o604, 0o644]) {
    chmodSync(path, mode);
    assert.throws(() => readLocalToken(path), { code: 'CONFIG_INVALID' });
  }
  chmodSync(path, 0o600);
  assert.ok(readLocalToken(path));
});

for (const [content, why] of [
  ['', 'empty'],
  ['short', 'short'],
  [`${TOKEN} ${TOKEN}`, 'with a space'],
  [`${TOKEN}\n${TOKEN}`, 'two lines'],
] as const)
  test(`a file that holds no usable token is refused: ${why}`, (t) => {
    const path = join(temporaryDirectory(t), 'token');
    writeFileSync(path, content, { mode: 0o600 });
    assert.throws(() => readLocalToken(path), { code: 'CONFIG_INVALID' });
  });
