import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from './address.ts';
import { giveNotice } from './drain-notice.ts';

const LOOPBACK = parseAddress('127.0.0.1:0');
const BEYOND = parseAddress('192.0.2.1:0');

/** How long the notice was, and what it left for calls. */
async function given(
  config: Partial<Parameters<typeof giveNotice>[0]>,
  requestedAt: () => number = () => 0,
): Promise<{ ms: number; left: number }> {
  const from = performance.now();
  const left = await giveNotice(
    { listen: LOOPBACK, drainNotice: undefined, drainTimeout: 60_000, ...config },
    requestedAt,
  );
  return { ms: performance.now() - from, left };
}

test('on loopback no notice is given, unless a time is', async () => {
  assert.equal((await given({})).ms < 1_900, true);
  assert.ok((await given({ drainNotice: 200 })).ms >= 199);
});

test('beyond loopback it is two seconds, which are not left for calls', async () => {
  const { ms, left } = await given({ listen: BEYOND });
  assert.ok(ms >= 1_990, `${ms} ms`);
  assert.ok(left <= 60_000 - 1_990 && left > 0, `${left} ms`);
});

test('it lasts until requests no longer come', async () => {
  const until = performance.now() + 700;
  const { ms } = await given({ drainNotice: 1 }, () => Math.min(performance.now(), until));
  assert.ok(ms >= 1_150, `${ms} ms: half a second after the last`);
});

test('requests that never stop cannot keep it beyond half of the time for calls', async () => {
  const { ms, left } = await given({ drainNotice: 1, drainTimeout: 600 }, () => performance.now());
  assert.ok(ms >= 299, `${ms} ms`);
  assert.ok(left < 600);
});
