import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { boxContract } from '../contract.ts';

// Test number one (D4): that no sysctl can be written, and that a box is never root's, is in the contract.
boxContract('bubblewrap');

test('control: a sysctl can be written from a bubblewrap that was started as root', {
  skip: process.getuid?.() === 0 ? false : 'needs root; .ci/run runs as root',
}, () => {
  const path = '/proc/sys/kernel/printk_ratelimit_burst';
  const value = readFileSync(path, 'utf8').trim();
  const attack = `echo ${Number(value) + 1} > ${path}`;
  const options = '--unshare-user --unshare-pid --uid 1000 --dev-bind / /'.split(' ');
  try {
    spawnSync('bwrap', [...options, 'sh', '-c', attack]);
    assert.equal(
      readFileSync(path, 'utf8').trim(),
      String(Number(value) + 1),
      'the attack must work where the protection is off',
    );
  } finally {
    writeFileSync(path, value);
  }
});
