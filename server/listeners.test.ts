import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { ServerEvent } from '@modelcontextprotocol/server';
import { type ErrorCode, OutriderError } from '#core/errors';
import { silentLogger } from '#core/log';
import type { Datasource } from '#proto';
import { Listeners } from './listeners.ts';
import type { RunContext } from './runner-client.ts';

const one = (name: string, description = ''): Datasource => ({ type: 'http', name, description });
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A runner whose watches are fed by hand, by owner. */
function rig(t: TestContext) {
  const watches = new Map<string, { next: (list: Datasource[] | OutriderError) => void }>();
  const opened: string[] = [];
  const listeners = new Listeners(
    {
      async *watchDatasources({ owner, signal }: Omit<RunContext, 'deadlineMs'>) {
        const queue: (Datasource[] | OutriderError)[] = [];
        let wake = (): void => {};
        opened.push(owner);
        watches.set(owner, { next: (list) => (queue.push(list), wake()) });
        signal.addEventListener('abort', () => wake());
        while (!signal.aborted) {
          const list = queue.shift();
          if (list instanceof OutriderError) throw list;
          if (list) yield list;
          else await new Promise<void>((resolve) => (wake = resolve));
        }
        watches.delete(owner);
      },
    },
    silentLogger,
  );
  const hears = (owner: string) => {
    const heard: string[] = [];
    const state = { ended: false };
    const hearer = {
      owner,
      assertion: `of ${owner}`,
      requestId: 'r',
      end: () => void (state.ended = true),
    };
    const leave = listeners.serving(hearer, () =>
      listeners.subscribe((event: ServerEvent) =>
        heard.push(event.kind === 'resource_updated' ? event.uri : event.kind),
      ),
    );
    t.after(leave);
    return { heard, state, leave };
  };
  const say = async (owner: string, list: Datasource[] | OutriderError) => {
    watches.get(owner)?.next(list);
    await settled();
  };
  return { listeners, watches, opened, hears, say };
}

const error = (code: ErrorCode) => new OutriderError(code, '');

test('F8: a client hears of what has changed of its own datasources, and nobody else does', async (t) => {
  const { hears, say } = rig(t);
  const [alice, bob] = [hears('alice'), hears('bob')];
  await say('bob', [one('c')]);
  await say('alice', [one('a'), one('b')]);
  assert.deepEqual(alice.heard, [], 'the first list is what it knows already');
  await say('alice', [one('b', 'new'), one('c')]);
  assert.deepEqual(alice.heard, [
    'resources_list_changed',
    'outrider://datasources',
    'outrider://datasources/http/a',
    'outrider://datasources/http/b',
    'outrider://datasources/http/c',
  ]);
  assert.deepEqual(bob.heard, []);
});

test('F8: a runner that was lost is asked again, and what has changed meanwhile is told', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { hears, say, opened } = rig(t);
  const { heard, state } = hears('alice');
  await say('alice', [one('a')]);
  await say('alice', error('UPSTREAM_LOST'));
  assert.deepEqual(opened, ['alice']);
  t.mock.timers.tick(1_000);
  await settled();
  assert.deepEqual(opened, ['alice', 'alice']);
  await say('alice', [one('a')]);
  assert.deepEqual(heard, [], 'nothing has changed');
  await say('alice', []);
  assert.deepEqual(heard.slice(0, 1), ['resources_list_changed']);
  assert.equal(state.ended, false);
});

test('F8: where the runner takes the assertion no longer, the client has to come again', async (t) => {
  const { hears, say } = rig(t);
  const { state } = hears('alice');
  await say('alice', [one('a')]);
  await say('alice', error('UNAUTHENTICATED'));
  assert.equal(state.ended, true);
});

for (const code of ['ROLE_DENIED', 'ROLE_AMBIGUOUS', 'QUOTA_EXCEEDED'] as const)
  test(`F8: a client that has no list yet for ${code} is not sent away, and has its next one within a minute`, async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { hears, say, opened } = rig(t);
    const { heard, state } = hears('alice');
    await say('alice', error(code));
    assert.equal(state.ended, false);
    t.mock.timers.tick(59_000);
    await settled();
    assert.deepEqual(opened, ['alice']);
    t.mock.timers.tick(1_000);
    await settled();
    assert.deepEqual(opened, ['alice', 'alice']);
    await say('alice', [one('a')]);
    assert.equal(heard.includes('outrider://datasources/http/a'), code !== 'QUOTA_EXCEEDED');
  });

test('F8: a client that leaves is watched for no longer, and at a stop every stream is ended', async (t) => {
  const { listeners, watches, hears, say } = rig(t);
  const [alice, bob] = [hears('alice'), hears('bob')];
  await say('alice', [one('a')]);
  assert.deepEqual([...watches.keys()], ['alice', 'bob']);
  alice.leave();
  await settled();
  assert.deepEqual([...watches.keys()], ['bob']);
  listeners.endAll();
  assert.deepEqual([alice.state.ended, bob.state.ended], [false, true]);
});
