import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { BOUNDARY, datasource, egressPolicy, ROLE, startMesh, startOrigin } from './testing.ts';

/** A mesh with one datasource and budgets on the only policy. */
async function budgeted(t: TestContext, budgets: readonly unknown[], size = 10) {
  const origin = await startOrigin(t, (_seen, response) => response.end('x'.repeat(size)));
  const policy = egressPolicy([{ id: 'api', datasource: 'http/api' }]);
  const spec = { ...Object(policy.spec), ...(budgets.length > 0 ? { budgets } : {}) };
  const mesh = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      { ...policy, spec },
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  return { origin, mesh };
}

test('a budget of requests holds for all sandboxes of a tenant, and for no other tenant', async (t) => {
  const { origin, mesh } = await budgeted(t, [
    { id: 'daily', per: ['tenant', 'role', 'day'], requests: 2 },
  ]);
  const of = async (sandboxId: string, tenant = LOCAL_PRINCIPAL.tenant) =>
    mesh.ask('/http/api/x', {
      token: await mesh.token({ sandboxId, principal: { ...LOCAL_PRINCIPAL, tenant } }),
    });
  assert.equal((await of('sbx-1')).status, 200);
  assert.equal((await of('sbx-2')).status, 200);
  const third = await of('sbx-3');
  assert.equal(third.status, 429);
  assert.equal(third.error.code, 'QUOTA_EXCEEDED');
  assert.equal(third.error.reason, 'budget_exhausted');
  const retryAfter = Number(third.headers['retry-after']);
  assert.ok(retryAfter >= 1 && retryAfter <= 86_400, `${retryAfter} s`);
  assert.equal(origin.seen.length, 2, 'what is refused never gets there');
  const { verdict, reason, rule } = mesh.records().at(-1) ?? {};
  assert.deepEqual([verdict, reason, rule], ['limit', 'budget_exhausted', 'api']);
  assert.equal((await of('sbx-1', 'other')).status, 200);
});

test('an answer that uses up a budget of bytes is cut, and nothing more is asked', async (t) => {
  const budgets = [{ id: 'daily', per: ['day'], bytes: 100_000 }];
  const { origin, mesh } = await budgeted(t, budgets, 80_000);
  assert.equal((await mesh.ask('/http/api/x')).status, 200);
  await assert.rejects(mesh.ask('/http/api/x'));
  assert.equal(mesh.records().at(-1)?.['reason'], 'budget_exhausted');
  assert.equal((await mesh.ask('/http/api/x')).status, 429);
  assert.equal(origin.seen.length, 2);
});

test('the bytes of a request count, too', async (t) => {
  const { mesh } = await budgeted(t, [{ id: 'daily', per: ['sandbox', 'hour'], bytes: '1KiB' }]);
  const body = 'y'.repeat(2_000);
  assert.equal((await mesh.ask('/http/api/x', { method: 'POST', body })).status, 429);
});

test('without a budget nothing is counted', async (t) => {
  const { mesh } = await budgeted(t, [], 200_000);
  for (let i = 0; i < 3; i++) assert.equal((await mesh.ask('/http/api/x')).status, 200);
});
