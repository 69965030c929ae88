import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadConfig } from '#core/config';
import { configuredLimits, limitsSpec } from './config.ts';

function limits(given: Readonly<Record<string, unknown>>) {
  const text = JSON.stringify({ proxy: { limits: given } });
  return loadConfig('proxy', limitsSpec(), { argv: [], env: {}, file: { name: 'f', text } });
}

test('by default a user may ask each datasource 60 times a minute, 10 at once, and nothing else is limited', () => {
  const { datasource, ...others } = configuredLimits(limits({}));
  assert.deepEqual(datasource, { rate: { count: 60, perMs: 60_000 }, burst: 10 });
  assert.ok(Object.values(others).every((value) => value === undefined));
  assert.equal(configuredLimits(limits({ datasource: 'none' })).datasource, undefined);
});

test('a rate is a count in a time with a burst, of requests or of bytes', () => {
  const read = configuredLimits(
    limits({
      principal: '5/s',
      host: '1/day burst 3',
      principalBytes: '2MiB/min',
      datasourceBytes: '1KiB/s burst 1MiB',
    }),
  );
  assert.deepEqual(read.principal, { rate: { count: 5, perMs: 1_000 }, burst: 1 });
  assert.deepEqual(read.host, { rate: { count: 1, perMs: 86_400_000 }, burst: 3 });
  const mib = 1_048_576;
  assert.deepEqual(read.principalBytes, {
    rate: { count: 2 * mib, perMs: 60_000 },
    burst: 2 * mib,
  });
  assert.deepEqual(read.datasourceBytes, { rate: { count: 1_024, perMs: 1_000 }, burst: mib });
});

test('a Redis is a URL without its password', () => {
  const { 'limits.redis': redis } = limits({ redis: 'rediss://me@[::1]:7000/3' });
  assert.deepEqual(redis, { host: '::1', port: 7_000, tls: true, database: 3, username: 'me' });
});

const wrong: readonly (readonly [Readonly<Record<string, unknown>>, RegExp])[] = [
  [{ principal: '60' }, /proxy\.limits\.principal.*must be rate/],
  [{ principal: '0/s' }, /must be rate/],
  [{ principal: '1/s burst 0' }, /must be rate/],
  [{ principal: 60 }, /must be rate/],
  [{ principalBytes: '60/min' }, /must be bytes in a time/],
  [{ redis: 'redis://u:p@h' }, /the password is a secret of its own/],
  [{ redis: 'h:6379' }, /must be redis:/],
  [{ proxies: 0 }, /whole number 1/],
  [{ rate: '1/s' }, /unknown key "proxy\.limits\.rate"/],
];
for (const [given, said] of wrong)
  test(`${JSON.stringify(given)} is refused`, () => {
    assert.throws(() => limits(given), said);
  });
