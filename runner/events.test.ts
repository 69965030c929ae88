import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { OutriderError } from '#core/errors';
import { Events } from './events.ts';
import type { ExecFacts } from './exec-facts.ts';

const happening = { kind: 'sandboxEnded', reason: 'idle' } as const;
const factsOf = (execId: string): ExecFacts => ({
  execId,
  sandboxId: 'sbx',
  attestation: undefined,
  session: '',
  role: 'analyst',
  policyDigest: '',
  startedAt: new Date(0),
  requestId: '',
  warm: false,
  labels: { run: execId },
  purpose: '',
  queuedMs: 0,
});

function rig() {
  const events = new Events();
  const leave = new AbortController();
  const watch = (owner: string, sandboxId = '') => events.watch(owner, sandboxId, leave.signal);
  return { events, watch, leave };
}

describe('a watcher', () => {
  test("is told of its owner's from the moment that it watches, in order", async () => {
    const { events, watch } = rig();
    events.publish('alice', 'sbx', happening, factsOf('before'));
    const watcher = watch('alice');
    events.publish('alice', 'sbx', happening, factsOf('a'));
    events.publish('bob', 'sbx', happening, factsOf('other'));
    events.publish('alice', 'sbx', happening, factsOf('b'));
    assert.equal((await watcher.next()).value?.execId, 'a');
    assert.equal((await watcher.next()).value?.execId, 'b');
    const waiting = watcher.next();
    events.publish('alice', 'sbx', happening, factsOf('c'));
    assert.equal((await waiting).value?.execId, 'c');
  });

  test('of one sandbox hears of no other', async () => {
    const { events, watch } = rig();
    const watcher = watch('alice', 'mine');
    events.publish('alice', 'other', happening, factsOf('a'));
    events.publish('alice', 'mine', happening, factsOf('b'));
    assert.equal((await watcher.next()).value?.execId, 'b');
  });

  test('that is 1000 events behind gets those, and is then told that it missed some', async () => {
    const { events, watch } = rig();
    const [slow, fast] = [watch('alice'), watch('alice')];
    const seen: string[] = [];
    for (let at = 0; at < 1_001; at++) {
      events.publish('alice', 'sbx', happening, factsOf(`${at}`));
      seen.push((await fast.next()).value?.execId ?? '');
    }
    assert.equal(seen.at(-1), '1000', 'one that keeps up misses nothing');
    for (let at = 0; at < 1_000; at++) assert.equal((await slow.next()).value?.execId, `${at}`);
    await assert.rejects(slow.next(), { code: 'QUOTA_EXCEEDED' });
    assert.equal((await slow.next()).done, true);
  });

  test('ends with its call, and its place is free again', async () => {
    const { events, watch, leave } = rig();
    const watchers = Array.from({ length: 16 }, () => watch('alice'));
    assert.throws(() => watch('alice'), { code: 'QUOTA_EXCEEDED' });
    watch('bob');
    const waiting = watchers[0]?.next();
    leave.abort(new OutriderError('CANCELLED', ''));
    assert.equal((await waiting)?.done, true);
    events.watch('alice', '', new AbortController().signal);
  });

  test('is told the last, and that the runner stops', async () => {
    const { events, watch } = rig();
    const [read, waits] = [watch('alice'), watch('bob')];
    const waiting = waits.next();
    events.publish('alice', 'sbx', happening, factsOf('last'));
    events.close();
    assert.equal((await read.next()).value?.execId, 'last');
    await assert.rejects(read.next(), { code: 'DRAINING' });
    await assert.rejects(waiting, { code: 'DRAINING' });
  });

  test('costs nothing where nobody watches', () => {
    const { events } = rig();
    const facts = {
      ...factsOf('unseen'),
      get labels(): never {
        return assert.fail('an event is made only for a watcher');
      },
    };
    events.publish('alice', 'sbx', happening, facts);
  });
});
