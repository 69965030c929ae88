import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Limits, Target } from '#policies';
import type { Caller } from './authority.ts';
import { type OpenExchange, OpenExchanges } from './open-exchanges.ts';
import { Revocations } from './revocations.ts';

const EXECUTION = { execId: 'exec-1', sandboxId: 'sbx-1', tokenId: 'jti-1', issuedAt: 1e10 };

/** Exchanges in a time that only `tick` moves on. */
function setUp(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  const open = new OpenExchanges(new Revocations());
  return {
    open,
    begin: (endsInMs: number, limits: Limits = {}): OpenExchange => {
      // Nothing but these is looked at until a policy changes.
      const caller = {
        identity: { execution: EXECUTION },
        endsAtMs: Date.now() + endsInMs,
      } as Caller;
      return open.begin(caller, { kind: 'tunnel' } as Target, limits);
    },
    tick: (ms: number): void => {
      now += ms;
      t.mock.timers.tick(ms);
    },
  };
}

const codeOf = (one: OpenExchange): string | undefined => one.cutBy?.code;

test('each exchange is cut when its exec must be over, whichever began first', (t) => {
  const { begin, tick } = setUp(t);
  const [long, short] = [begin(5_000), begin(1_000)];
  tick(999);
  assert.equal(codeOf(short), undefined);
  tick(2);
  assert.equal(codeOf(short), 'UNAUTHENTICATED');
  assert.equal(codeOf(long), undefined);
  tick(4_000);
  assert.equal(codeOf(long), 'UNAUTHENTICATED');
});

test('one that has ended is not cut, and those that go on still are', (t) => {
  const { begin, open, tick } = setUp(t);
  const [ended, goes] = [begin(1_000), begin(1_000)];
  ended.close();
  assert.equal(open.size, 1);
  tick(1_002);
  assert.equal(codeOf(ended), undefined);
  assert.equal(codeOf(goes), 'UNAUTHENTICATED');
});

test('the rule ends an exchange before its exec does', (t) => {
  const { begin, tick } = setUp(t);
  const one = begin(60_000, { durationMs: 100 });
  tick(101);
  assert.equal(codeOf(one), 'UPSTREAM_TIMEOUT');
});

test('what was expected and does not come is said once, and not where more came in time', (t) => {
  const { begin, tick } = setUp(t);
  const [silent, lively, quiet] = [begin(60_000), begin(60_000), begin(60_000)];
  const late: string[] = [];
  silent.expect(100, () => late.push('silent'));
  lively.expect(100, () => late.push('lively'));
  quiet.expect(100, () => late.push('quiet'));
  tick(60);
  lively.expect(100, () => late.push('lively'));
  quiet.expectNothing();
  tick(60);
  assert.deepEqual(late, ['silent']);
  tick(60);
  assert.deepEqual(late, ['silent', 'lively']);
  tick(1_000);
  assert.equal(late.length, 2);
});
