import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { BOUNDARY, datasource, egressPolicy, ROLE, startMesh, startOrigin } from './testing.ts';

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };

/** A mesh whose one rule grants `prometheus/main` with what `rule` says. */
async function metrics(t: TestContext, rule: Readonly<Record<string, unknown>>) {
  const origin = await startOrigin(t);
  const mesh = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([{ id: 'metrics', datasource: 'prometheus/main', ...rule }]),
      datasource('prometheus', 'main', `http://127.0.0.1:${origin.port}`),
    ],
  });
  const ask = (target: string, form?: string | Buffer, headers = {}) =>
    mesh.ask(`/prometheus/main/api/v1/${target}`, {
      method: form === undefined ? 'GET' : 'POST',
      headers: form === undefined ? headers : { ...FORM, ...headers },
      ...(form === undefined ? {} : { body: form }),
    });
  return { origin, ask, records: mesh.records };
}

const MINE = encodeURIComponent('up{tenant="acme"}');
const ALL = encodeURIComponent('up{tenant="acme"} or up');

test('a query that escapes its labels never leaves, and without the labels it does', async (t) => {
  const { origin, ask, records } = await metrics(t, { labels: { tenant: 'acme' } });
  for (const refused of [await ask(`query?query=${ALL}`), await ask('query', `query=${ALL}`)]) {
    assert.equal(refused.status, 403, refused.body);
    assert.equal(refused.error.reason, 'label_not_enforced');
    assert.equal(refused.error.rule, 'metrics');
  }
  assert.equal(origin.connections(), 0);
  const { verdict, reason, rule } = records().at(-1) ?? {};
  assert.deepEqual([verdict, reason, rule], ['deny', 'label_not_enforced', 'metrics']);

  assert.equal((await ask(`query?query=${MINE}`)).status, 200);
  const open = await metrics(t, {});
  assert.equal((await open.ask(`query?query=${ALL}`)).status, 200);
  assert.equal((await open.ask('query', `query=${ALL}`)).status, 200);
  assert.deepEqual(
    open.origin.seen.map(({ url, body }) => [url, body]),
    [
      [`/api/v1/query?query=${ALL}`, ''],
      ['/api/v1/query', `query=${ALL}`],
    ],
  );
});

test('a form that is allowed arrives as it was sent, also in chunks and behind 100-continue', async (t) => {
  const { origin, ask } = await metrics(t, { labels: { tenant: 'acme' } });
  const form = `query=${MINE}&time=1`;
  for (const headers of [
    {},
    { 'transfer-encoding': 'chunked' },
    { expect: '100-continue', 'content-length': String(form.length) },
  ])
    assert.equal((await ask('query', form, headers)).status, 200, JSON.stringify(headers));
  assert.deepEqual(
    origin.seen.map(({ body, headers }) => [body, headers['content-length']]),
    Array.from({ length: 3 }, () => [form, String(form.length)]),
  );
});

test('a query in both URL and form, an encoded form and one without end are refused', async (t) => {
  const { origin, ask } = await metrics(t, {});
  const both = await ask('query?query=up', 'query=up');
  assert.deepEqual([both.status, both.error.reason], [400, 'param_duplicate']);
  // A real one is no UTF-8 either: that it is encoded is the reason, and nobody unpacks it to find another.
  for (const form of ['query=up', gzipSync('query=up')]) {
    const zipped = await ask('query', form, { 'content-encoding': 'gzip' });
    assert.deepEqual([zipped.status, zipped.error.reason], [415, 'encoded_body_forbidden']);
  }
  const binary = await ask('query', Buffer.from('query=up%00\xff', 'latin1'));
  assert.deepEqual([binary.status, binary.error.reason], [400, 'query_malformed']);
  const endless = await ask('query', `query=${'a'.repeat(1_048_577)}`);
  assert.deepEqual([endless.status, endless.error.reason], [413, 'body_too_large']);
  assert.equal(origin.connections(), 0);
});

test('a time-out of the rule goes with the query', async (t) => {
  const { origin, ask } = await metrics(t, { limits: { queryTime: '30s' } });
  assert.equal((await ask(`query?query=up`)).status, 200);
  assert.equal((await ask('query', 'query=up')).status, 200);
  assert.equal((await ask('query?query=up&timeout=31s')).error.reason, 'query_budget');
  assert.deepEqual(
    origin.seen.map(({ url }) => url),
    ['/api/v1/query?query=up&timeout=30000ms', '/api/v1/query?timeout=30000ms'],
  );
});

test('more points than a server gives, another tenant and closed endpoints are refused', async (t) => {
  const { origin, ask } = await metrics(t, { endpoints: ['query'] });
  const points = await ask('query_range?query=up&start=0&end=9999999999&step=0.001');
  assert.equal(points.error.reason, 'query_budget');
  const tenant = await ask('query?query=up', undefined, { 'x-scope-orgid': 'other' });
  assert.equal(tenant.error.reason, 'header_forbidden');
  assert.equal((await ask('labels')).error.reason, 'path_not_allowed');
  assert.equal(origin.connections(), 0);
  assert.equal((await ask('query?query=up')).status, 200);
});
