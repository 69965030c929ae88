import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { LeaseAsk, LeaseStore } from './lease-store.ts';

function ask(key: string, want: number, change: Partial<LeaseAsk> = {}): LeaseAsk {
  return {
    key,
    intervalMs: 60_000,
    burst: 10,
    want,
    charge: 0,
    holds: 0,
    answeredMs: undefined,
    ...change,
  };
}

/** Tests of what is true of every store. `of` gives it as one of the proxies sees it. */
export function leaseFacts(of: (member: string) => Promise<LeaseStore>): void {
  const one = async (member: string, asked: LeaseAsk) => {
    const [answer] = await (await of(member)).ask([asked]);
    assert.ok(answer);
    return answer;
  };

  test('together the proxies get the burst and no more, and are told when more comes', async () => {
    const key = randomUUID();
    assert.equal((await one('a', ask(key, 7))).granted, 7);
    const rest = await one('b', ask(key, 7));
    assert.equal(rest.granted, 3);
    const none = await one('b', ask(key, 1, { holds: 3 }));
    assert.equal(none.granted, 0);
    assert.ok(none.moreInMs > 0 && none.moreInMs <= 60_000, `${none.moreInMs}`);
  });

  test('what is given back can be had by another', async () => {
    const key = randomUUID();
    await one('a', ask(key, 10));
    await one('a', ask(key, -4, { holds: 6 }));
    assert.equal((await one('b', ask(key, 10, { holds: 1 }))).granted, 4);
  });

  test('what was used without asking is paid for first, also where it overdraws', async () => {
    const key = randomUUID();
    await one('a', ask(key, 10));
    const { granted, moreInMs } = await one('b', ask(key, 1, { charge: 3 }));
    assert.equal(granted, 0);
    assert.ok(moreInMs > 3 * 60_000, 'the debt, and then one');
  });

  test('one is kept back for each other proxy that needs one', async () => {
    const key = randomUUID();
    await one('a', ask(key, 9));
    await one('b', ask(key, 0, { holds: 0 }));
    assert.equal((await one('a', ask(key, 1, { holds: 9 }))).granted, 0);
    assert.equal((await one('b', ask(key, 1))).granted, 1);
  });

  test('more comes with time, up to the burst', async () => {
    const key = randomUUID();
    const quick = { intervalMs: 5, burst: 10 };
    await one('a', ask(key, 10, quick));
    await new Promise((resolve) => setTimeout(resolve, 120));
    assert.equal((await one('a', ask(key, 50, { ...quick, holds: 1 }))).granted, 10);
  });

  test('a limit that the store has lost is not whole for who was answered lately', async () => {
    const lost = randomUUID();
    const { granted } = await one('a', ask(lost, 10, { answeredMs: 2 * 60_000 }));
    assert.equal(granted, 2);
    const long = randomUUID();
    assert.equal((await one('a', ask(long, 20, { answeredMs: 3_600_000 }))).granted, 10);
  });

  test('many asks are answered in their order', async () => {
    const keys = Array.from({ length: 100 }, () => randomUUID());
    const answers = await (await of('a')).ask(keys.map((key, at) => ask(key, at % 10)));
    assert.deepEqual(
      answers.map(({ granted }) => granted),
      keys.map((_, at) => at % 10),
    );
  });
}
