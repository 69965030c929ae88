import assert from 'node:assert/strict';
import { totalmem } from 'node:os';
import { test } from 'node:test';
import { loadConfig } from '#core/config';
import { runnerSpec } from './config.ts';

const load = (pipIndex: string) =>
  loadConfig('runner', runnerSpec({ runtime: '/run/outrider', state: '/var/lib/outrider' }), {
    argv: ['--policies', '/policies', '--pip-index', pipIndex],
    env: {},
  });

test('C13: without being told otherwise, all sandboxes together get three quarters of the memory at most', () => {
  const { memory } = load('');
  assert.ok(memory > 0 && memory <= 0.75 * totalmem());
});

test('there is no registry where none is configured', () => {
  const { pipIndex, npmRegistry } = load('');
  assert.deepEqual([pipIndex, npmRegistry], [undefined, undefined]);
});

const good: readonly (readonly [string, string])[] = [
  ['https://packages.example.com/simple/', 'https://packages.example.com/simple/'],
  ['http://PACKAGES.example.com', 'http://packages.example.com/'],
  ['https://packages.example.com:8443/a/b', 'https://packages.example.com:8443/a/b'],
];
for (const [given, url] of good)
  test(`${given} is a registry`, () => assert.equal(load(given).pipIndex, url));

const bad: readonly (readonly [string, string])[] = [
  ['packages.example.com', 'no scheme'],
  ['ftp://packages.example.com/', 'another scheme'],
  ['file:///srv/packages', 'a directory'],
  ['https://user:word@packages.example.com/', 'a password that every program would see'],
  ['https://token@packages.example.com/', 'a token that every program would see'],
  ['https://packages.example.com/?a=b', 'a query'],
  ['https://packages.example.com/#a', 'a fragment'],
];
for (const [given, why] of bad)
  test(`${given} is no registry: ${why}`, () =>
    assert.throws(() => load(given), { code: 'CONFIG_INVALID', message: /pip-?index/i }));
