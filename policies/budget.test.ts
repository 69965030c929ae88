import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Budget, Budgets, budgetsOf } from './budget.ts';
import { egress } from './fixture.ts';

const NOON = Date.parse('2026-11-21T12:30:00Z');
const ANN = { tenant: 'acme', role: 'analyst', sandbox: 'sb-1', credential: '' };

function budget(spec: Partial<Budget> = {}): Budget {
  return { policy: 'p', id: 'daily', apart: ['tenant'], period: 'day', ...spec };
}

test('a budget is used up by as many requests as it names, and is whole again with its next period', () => {
  for (const [period, before, after] of [
    ['hour', '2026-11-21T12:59:59.999Z', '2026-11-21T13:00:00Z'],
    ['day', '2026-11-21T23:59:59.999Z', '2026-11-22T00:00:00Z'],
    ['month', '2026-11-30T23:59:59.999Z', '2026-12-01T00:00:00Z'],
  ] as const) {
    const budgets = new Budgets();
    const take = (nowMs: number) => budgets.take([budget({ period, requests: 2 })], ANN, nowMs);
    assert.ok(take(NOON).ok && take(NOON).ok, period);
    const refused = take(Date.parse(before));
    assert.deepEqual(refused, { ok: false, budget: 'daily', retryAfterMs: 1 }, period);
    assert.ok(take(Date.parse(after)).ok, period);
  }
});

test('only what a budget names is counted apart', () => {
  const others = [
    ['tenant', { ...ANN, tenant: 'other' }],
    ['role', { ...ANN, role: 'other' }],
    ['sandbox', { ...ANN, sandbox: 'sb-2' }],
    ['credential', { ...ANN, credential: 'github' }],
  ] as const;
  for (const [dimension] of others) {
    for (const [differs, spender] of others) {
      const budgets = new Budgets();
      const one = [budget({ apart: [dimension], requests: 1 })];
      assert.ok(budgets.take(one, ANN, NOON).ok);
      assert.equal(
        budgets.take(one, spender, NOON).ok,
        differs === dimension,
        `${dimension} ${differs}`,
      );
    }
  }
});

test('bytes are counted as they go by, and the one that is too many says so', () => {
  const budgets = new Budgets();
  const first = budgets.take([budget({ bytes: 100 })], ANN, NOON);
  const second = budgets.take([budget({ bytes: 100 })], ANN, NOON);
  assert.ok(first.ok && second.ok);
  assert.ok(first.spend(60));
  assert.ok(second.spend(40));
  assert.ok(!first.spend(1));
  assert.ok(!budgets.take([budget({ bytes: 100 })], ANN, NOON).ok);
});

test('where one of several budgets is used up, the others are not charged', () => {
  const budgets = new Budgets();
  const small = budget({ id: 'small', requests: 1 });
  const large = budget({ id: 'large', requests: 2 });
  assert.ok(budgets.take([small, large], ANN, NOON).ok);
  assert.ok(!budgets.take([large, small], ANN, NOON).ok);
  assert.ok(budgets.take([large], ANN, NOON).ok);
  assert.ok(!budgets.take([large], ANN, NOON).ok);
});

test('accounts whose time is over are forgotten', () => {
  const budgets = new Budgets();
  for (let i = 0; i < 3_000; i++)
    budgets.take([budget({ requests: 1 })], { ...ANN, tenant: `t${i}` }, NOON);
  assert.ok(budgets.size >= 3_000);
  for (let i = 0; i < 3_000; i++)
    budgets.take([budget({ requests: 1 })], { ...ANN, tenant: `n${i}` }, NOON + 86_400_000);
  assert.ok(budgets.size <= 3_000, String(budgets.size));
});

test('a document writes its budgets with units', () => {
  const policy = egress('p', [], [], {
    budgets: [{ id: 'daily', per: ['tenant', 'role', 'day'], requests: 50, bytes: '1KiB' }],
  });
  assert.deepEqual(budgetsOf(policy), [
    {
      policy: 'p',
      id: 'daily',
      apart: ['tenant', 'role'],
      period: 'day',
      requests: 50,
      bytes: 1024,
    },
  ]);
});
