import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOCAL_PRINCIPAL } from '#core/principal';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startMesh,
  startOrigin,
} from './testing.ts';

type Limits = Readonly<Record<string, unknown>>;

function documents(port: number, limits: Limits, extra: Limits = {}) {
  return [
    ROLE,
    BOUNDARY,
    egressPolicy([
      { id: 'limited', datasource: 'http/limited', limits, ...extra },
      { id: 'free', datasource: 'http/free' },
    ]),
    datasource('http', 'limited', `http://127.0.0.1:${port}`),
    datasource('http', 'free', `http://127.0.0.1:${port}`),
  ];
}

/** An origin whose answers wait until they are let go, where `hold` says so. */
async function held(t: TestContext, limits: Limits, hold = false) {
  const waiting: ServerResponse[] = [];
  const origin = await startOrigin(t, ({ url }, response) => {
    if (hold && url !== '/now') waiting.push(response);
    else response.end('hello');
  });
  const mesh = await startMesh(t, { documents: documents(origin.port, limits) });
  return { origin, mesh, waiting };
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (; !condition(); await sleep(10))
    assert.ok(Date.now() < deadline, 'it did not happen in time');
}

/** Limits that nothing here reaches. */
const WIDE: Limits = { concurrent: 100 };

const lastRecord = ({ records }: Mesh) => records().at(-1) ?? {};

test("a rule's rate holds for all sandboxes of a tenant's role together, and for no other tenant's or rule's", async (t) => {
  const { origin, mesh } = await held(t, { rate: '2/h', burst: 2 });
  const { ask, token } = mesh;
  const of = async (sandboxId: string, tenant = LOCAL_PRINCIPAL.tenant) =>
    ask('/http/limited/x', {
      token: await token({ sandboxId, principal: { ...LOCAL_PRINCIPAL, tenant } }),
    });
  assert.equal((await of('sbx-1')).status, 200);
  assert.equal((await of('sbx-2')).status, 200);
  const third = await of('sbx-3');
  assert.equal(third.status, 429);
  assert.deepEqual(third.error, { ...third.error, code: 'RATE_LIMITED', reason: 'rate_limited' });
  assert.equal(third.headers['x-outrider-rule'], 'limited');
  const retryAfter = Number(third.headers['retry-after']);
  assert.ok(retryAfter > 1_700 && retryAfter <= 1_800, `${retryAfter} s`);
  assert.equal(third.headers['ratelimit-policy'], '"limited";q=2;w=3600');
  assert.equal(third.headers['ratelimit'], `"limited";r=0;t=${retryAfter}`);
  assert.equal(origin.seen.length, 2, 'what is refused never gets there');
  const { verdict, reason, rule } = lastRecord(mesh);
  assert.deepEqual([verdict, reason, rule], ['limit', 'rate_limited', 'limited']);

  assert.equal((await of('sbx-1', 'other')).status, 200, 'another tenant');
  assert.equal((await ask('/http/free/x')).status, 200, 'another rule');
});

test('a denied request takes nothing of the rate', async (t) => {
  const origin = await startOrigin(t);
  const limits = { rate: '1/h' };
  const { ask } = await startMesh(t, {
    documents: documents(origin.port, limits, { methods: ['GET'] }),
  });
  for (let round = 0; round < 3; round++)
    assert.equal((await ask('/http/limited/x', { method: 'DELETE' })).status, 405);
  assert.equal((await ask('/http/limited/x')).status, 200);
  assert.equal((await ask('/http/limited/x')).status, 429);
});

test('as many requests run at once as the rule says; one that ends, or whose caller leaves, makes room', async (t) => {
  const { mesh, waiting } = await held(t, { concurrent: 2 }, true);
  const { ask } = mesh;
  const running = [ask('/http/limited/1'), ask('/http/limited/2')];
  await until(() => waiting.length === 2);
  const third = await ask('/http/limited/3');
  assert.deepEqual([third.status, third.error.reason], [429, 'concurrency_limited']);
  assert.equal(third.headers['retry-after'], '1');
  assert.equal((await ask('/http/free/now')).status, 200);
  waiting[0]?.end('one');
  await Promise.race(running);
  assert.equal((await ask('/http/limited/now')).status, 200);
  assert.equal((await ask('/http/limited/now')).status, 200, 'and again');
  waiting[1]?.destroy();
  await Promise.allSettled(running);
  assert.equal((await ask('/http/limited/now')).status, 200);
});

test('a request body may be as long as the rule says, with its length told or not', async (t) => {
  const { origin, mesh } = await held(t, { requestBytes: '10B' });
  const post = (length: number, chunked: boolean, name = 'limited') =>
    mesh.ask(`/http/${name}/x`, {
      method: 'POST',
      body: 'x'.repeat(length),
      headers: chunked ? { 'transfer-encoding': 'chunked' } : {},
    });
  for (const chunked of [false, true]) {
    assert.equal((await post(10, chunked)).status, 200);
    const got = await post(11, chunked);
    assert.equal(got.status, 413, got.body);
    const { code, reason, rule } = got.error;
    assert.deepEqual([code, reason, rule], ['BODY_TOO_LARGE', 'body_too_large', 'limited']);
    assert.equal(lastRecord(mesh)['verdict'], 'deny');
    assert.equal((await post(11, chunked, 'free')).status, 200);
  }
  const whole = origin.seen.filter(({ body }) => body.length > 10);
  assert.equal(whole.length, 2, 'those of the rule without a limit');
});

test('an answer may be as long as the rule says; a longer one is 502 where its length is told, and else is cut', async (t) => {
  const origin = await startOrigin(t, ({ url }, response) => {
    const text = 'x'.repeat(Number(/\d+/.exec(url)?.[0]));
    if (url.startsWith('/told')) response.setHeader('content-length', text.length);
    else response.write(text.slice(0, 5));
    response.end(url.startsWith('/told') ? text : text.slice(5));
  });
  const mesh = await startMesh(t, { documents: documents(origin.port, { responseBytes: '10B' }) });
  const { ask } = mesh;
  for (const form of ['told', 'open']) {
    const fits = await ask(`/http/limited/${form}-10`);
    assert.deepEqual([fits.status, fits.body.length], [200, 10]);
    assert.equal((await ask(`/http/free/${form}-11`)).body.length, 11);
  }
  const told = await ask('/http/limited/told-11');
  assert.deepEqual([told.status, told.error.reason], [502, 'body_too_large']);
  assert.equal(told.error.rule, 'limited', 'it says whose limit that is');
  assert.equal((await ask('/http/limited/told-11', { method: 'HEAD' })).status, 200);
  const open = await ask('/http/limited/open-11').catch(() => undefined);
  assert.ok(open === undefined || open.status === 502, 'nobody takes it for a whole answer');
  const { code, verdict } = lastRecord(mesh);
  assert.deepEqual([code, verdict], ['BODY_TOO_LARGE', 'deny']);
});

test('an exchange lasts as long as the rule says', async (t) => {
  const { mesh, waiting } = await held(t, { duration: '200ms' }, true);
  const late = await mesh.ask('/http/limited/x');
  assert.deepEqual([late.status, late.error.reason], [504, 'upstream_timeout']);
  const free = mesh.ask('/http/free/x');
  await sleep(400);
  waiting.at(-1)?.end('late');
  assert.equal((await free).status, 200);
});

test('a request under way that the policy no longer allows is cut within a second or two; one that it allows goes on', async (t) => {
  const { origin, mesh, waiting } = await held(t, WIDE, true);
  const cut = mesh.ask('/http/limited/x');
  const kept = mesh.ask('/http/free/x');
  await until(() => waiting.length === 2);
  const without = documents(origin.port, WIDE).map((one) =>
    one.kind === 'EgressPolicy' ? egressPolicy([{ id: 'free', datasource: 'http/free' }]) : one,
  );
  mesh.writePolicies(without);
  const got = await cut;
  assert.deepEqual([got.status, got.error.reason], [404, 'alias_unknown'], got.body);
  const { verdict, reason, target } = lastRecord(mesh);
  assert.deepEqual([verdict, reason, target], ['deny', 'alias_unknown', 'http/limited/x']);
  for (const response of waiting) response.end('whole');
  assert.equal((await kept).body, 'whole');
});

test('the record of a refusal has 256 characters of its target', async (t) => {
  const { mesh } = await held(t, WIDE);
  const path = 'x'.repeat(1_000);
  await mesh.ask(`http://evil.example/${path}`);
  assert.equal(String(lastRecord(mesh)['target']).length, 256);
  await mesh.ask(`/http/free/${path}`);
  assert.equal(lastRecord(mesh)['target'], `http/free/${path}`);
});

const DIMENSIONS: readonly (readonly [
  string,
  string,
  { sandboxId?: string; principal?: object },
  string,
])[] = [
  ['principal', '/http/free/x', { principal: { subject: 'eve' } }, 'another user'],
  ['role', '/http/free/x', { principal: { tenant: 'other' } }, 'another tenant'],
  ['datasource', '/http/other/x', {}, 'another datasource'],
];
for (const [dimension, elsewhere, change, who] of DIMENSIONS)
  test(`a limit of each ${dimension} holds, the answer says which it was, and ${who} is not touched`, async (t) => {
    const origin = await startOrigin(t);
    const mesh = await startMesh(t, {
      documents: [
        ROLE,
        BOUNDARY,
        egressPolicy([
          { id: 'free', datasource: 'http/free' },
          { id: 'other', datasource: 'http/other' },
        ]),
        datasource('http', 'free', `http://127.0.0.1:${origin.port}`),
        datasource('http', 'other', `http://127.0.0.1:${origin.port}`),
      ],
      config: { limits: { [dimension]: '2/h burst 2' } },
    });
    for (const sandboxId of ['a', 'b'])
      assert.equal(
        (await mesh.ask('/http/free/x', { token: await mesh.token({ sandboxId }) })).status,
        200,
      );
    const third = await mesh.ask('/http/free/x');
    assert.deepEqual([third.status, third.error.reason], [429, 'rate_limited']);
    assert.match(third.body, new RegExp(`requests of the ${dimension}`));
    const [policy, left] = [third.headers['ratelimit-policy'], third.headers['ratelimit']];
    assert.equal(policy, `"${dimension}";q=2;w=3600`);
    assert.equal(left, `"${dimension}";r=0;t=${third.headers['retry-after']}`);
    assert.equal(origin.seen.length, 2);
    const principal = { ...LOCAL_PRINCIPAL, ...change.principal };
    const token = await mesh.token({ principal });
    assert.equal((await mesh.ask(elsewhere, { token })).status, 200, who);
  });

test('a limit of bytes refuses the next request, of that user, after what the last one brought', async (t) => {
  const origin = await startOrigin(t, (_seen, response) => response.end('x'.repeat(5_000)));
  const mesh = await startMesh(t, {
    documents: documents(origin.port, WIDE),
    config: { limits: { principalBytes: '1KiB/h burst 4KiB' } },
  });
  assert.equal((await mesh.ask('/http/free/x')).body.length, 5_000, 'what has begun goes on');
  const second = await mesh.ask('/http/free/x');
  assert.equal(second.status, 429);
  assert.match(second.body, /bytes of the principal/);
  assert.equal(second.headers['ratelimit'], undefined, 'which is about requests');
});
