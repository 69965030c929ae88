import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type RevocationNews, Revocations } from './revocations.ts';

/** Collects what a watcher is told; `next` resolves to the next message. */
function watcher(revocations: Revocations) {
  const gone = new AbortController();
  const news = revocations.watch(gone.signal);
  const ids = ({ revoked }: RevocationNews) => revoked.map(({ execId }) => execId);
  return {
    gone,
    next: async () => {
      const { value, done } = await news.next();
      return done || !value ? 'ended' : { ids: ids(value), synced: value.synced };
    },
  };
}

test('a watcher is told first what is in force, then each exec as it ends', async () => {
  const revocations = new Revocations();
  revocations.revoke('a');
  revocations.revoke('b');
  const { next, gone } = watcher(revocations);
  assert.deepEqual(await next(), { ids: ['a', 'b'], synced: true });
  const later = next();
  revocations.revoke('c');
  assert.deepEqual(await later, { ids: ['c'], synced: true });
  const end = next();
  gone.abort();
  assert.equal(await end, 'ended');
});

test('without news there is a keep-alive, and nothing is told twice', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const revocations = new Revocations();
  const { next } = watcher(revocations);
  assert.deepEqual(await next(), { ids: [], synced: true });
  const silent = next();
  t.mock.timers.tick(10_000);
  assert.deepEqual(await silent, { ids: [], synced: true });
});

test('an exec is forgotten when its last token has run out, and not before', async () => {
  let now = 1_000_000;
  const revocations = new Revocations(() => now);
  revocations.revoke('early');
  now += 69_000;
  revocations.revoke('late');
  assert.deepEqual(await watcher(revocations).next(), { ids: ['early', 'late'], synced: true });
  now += 1_001;
  assert.deepEqual(await watcher(revocations).next(), { ids: ['late'], synced: true });
});

test('one that does not read is owed no more than what is in force', async () => {
  let now = 1_000_000;
  const revocations = new Revocations(() => now);
  const { next } = watcher(revocations);
  await next();
  revocations.revoke('old');
  now += 80_000;
  revocations.revoke('new');
  assert.deepEqual(await next(), { ids: ['new'], synced: true });
});

test('many are told in pieces, and only the last says that it is all', async () => {
  const revocations = new Revocations();
  for (let each = 0; each < 10_001; each++) revocations.revoke(`exec-${each}`);
  const { next } = watcher(revocations);
  const first = await next();
  assert.ok(first !== 'ended' && first.ids.length === 10_000 && !first.synced);
  assert.deepEqual(await next(), { ids: ['exec-10000'], synced: true });
});

test('closing tells what is left, then ends', async () => {
  const revocations = new Revocations();
  const { next } = watcher(revocations);
  await next();
  revocations.revoke('last');
  revocations.close();
  assert.deepEqual(await next(), { ids: ['last'], synced: true });
  assert.equal(await next(), 'ended');
});
