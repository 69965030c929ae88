import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Metrics } from '#core/metrics';
import { createBalancer } from './balancer.ts';
import type { ServerPlace } from './upstream.ts';

const SERVERS = ['http://127.0.0.1:1/mcp', 'http://127.0.0.1:2/mcp', 'http://127.0.0.1:3/other'];

function placeAt(url: string, over: Partial<ServerPlace> = {}): ServerPlace {
  return { url: new URL(url), weight: 1, draining: false, ...over };
}

function balancerOf(t: TestContext, count: number, now: () => number, random: () => number) {
  const servers = SERVERS.slice(0, count).map((url) => placeAt(url));
  const balancer = createBalancer(servers, new Metrics('test'), now, random);
  t.after(() => balancer.close());
  return balancer;
}

test('of two servers the one with fewer requests in flight is picked', (t) => {
  const balancer = balancerOf(t, 2, Date.now, () => 0);
  const [first, second] = balancer.upstreams;
  assert.ok(first && second);
  const visit = balancer.begin(first);
  assert.equal(balancer.pick(), second);
  balancer.begin(second);
  balancer.begin(second);
  assert.equal(balancer.pick(), first);
  visit.over('answered');
  visit.over('answered');
  balancer.begin(first);
  balancer.begin(first);
  balancer.begin(first);
  assert.equal(balancer.pick(), second, 'an end that is told twice counts once');
});

test('every server is picked when all are idle', (t) => {
  const balancer = balancerOf(t, 3, Date.now, Math.random);
  const picked = new Set(Array.from({ length: 200 }, () => balancer.pick()));
  assert.equal(picked.size, 3);
});

test('a server that could not be reached is left out for 5 s', (t) => {
  let now = 0;
  const balancer = balancerOf(t, 2, () => now, Math.random);
  const [first, second] = balancer.upstreams;
  assert.ok(first && second);
  balancer.begin(first).over('unreachable');
  const picks = () => new Set(Array.from({ length: 50 }, () => balancer.pick()));
  assert.deepEqual(picks(), new Set([second]));
  now = 5_000;
  assert.equal(picks().size, 2);
});

test('with every server ejected, they are tried all the same', (t) => {
  const balancer = balancerOf(t, 2, Date.now, Math.random);
  for (const upstream of balancer.upstreams) balancer.begin(upstream).over('unreachable');
  assert.ok(balancer.pick());
});

test('there is no second choice where there is one server', (t) => {
  const balancer = balancerOf(t, 1, Date.now, Math.random);
  const [only] = balancer.upstreams;
  assert.equal(balancer.pick(), only);
  assert.equal(balancer.pick(balancer.upstreams), undefined);
});

test('one that failed five times gets nothing for 30 s, also as the only one; then one request at a time', (t) => {
  let now = 0;
  const balancer = balancerOf(t, 1, () => now, Math.random);
  const [only] = balancer.upstreams;
  assert.ok(only);
  for (let n = 0; n < 5; n++) balancer.begin(only).over('failed');
  assert.equal(balancer.pick(), undefined);
  assert.equal(balancer.restMs(only), 30_000);
  assert.equal(balancer.restMs(), 30_000, 'and nothing else is there');
  now = 30_000;
  assert.equal(balancer.restMs(), 0);
  assert.equal(balancer.pick(), only);
  balancer.begin(only);
  assert.equal(balancer.pick(), undefined, 'one is on its way');
});

test('a draining server gets nothing new, also as the only one, but for clients that it has', (t) => {
  const [first = '', second = ''] = SERVERS;
  const balancer = createBalancer([placeAt(first, { draining: true })], new Metrics('test'));
  t.after(() => balancer.close());
  assert.equal(balancer.pick(), undefined);
  assert.ok((balancer.restMs() ?? 0) > 0);
  assert.equal(balancer.pick([], true)?.url.href, first);
  balancer.update([placeAt(first, { draining: true }), placeAt(second)]);
  for (let n = 0; n < 20; n++) assert.equal(balancer.pick([], true)?.url.href, second);
});

test('what is in flight at a server hears of it once nothing came in three checks, and not before', (t) => {
  const balancer = balancerOf(t, 2, Date.now, Math.random);
  const [first, second] = balancer.upstreams;
  assert.ok(first && second);
  const gone: string[] = [];
  balancer.begin(first, () => gone.push('over')).over('answered');
  const busy = balancer.begin(first, () => gone.push('first'));
  balancer.begin(second, () => gone.push('second'));
  for (let n = 0; n < 9; n++) {
    balancer.checked(first, 'silent');
    busy.heard(false);
  }
  for (let n = 0; n < 9; n++) balancer.checked(first, 'unsound');
  assert.deepEqual(gone, [], 'it is busy, or stops, but is there');
  for (let n = 0; n < 3; n++) balancer.checked(first, 'silent');
  assert.deepEqual(gone, ['first']);
});

test('one that has left is kept for 10 min behind its last answer, however often it is tried', (t) => {
  let now = 0;
  const [first = '', second = ''] = SERVERS;
  const balancer = createBalancer([placeAt(first)], new Metrics('test'), () => now);
  t.after(() => balancer.close());
  const [upstream] = balancer.upstreams;
  assert.ok(upstream);
  const later = (ms: number) => {
    now += ms;
    balancer.update([placeAt(second)]);
    return balancer.find(first);
  };
  assert.equal(later(0), upstream);
  assert.deepEqual(balancer.left, [upstream]);
  const stream = balancer.begin(upstream);
  stream.heard(true);
  assert.equal(later(3_600_000), upstream, 'while it has something');
  stream.over(undefined);
  assert.equal(later(599_999), upstream, 'control: its client had an answer');
  for (const end of ['failed', 'unreachable', undefined] as const)
    balancer.begin(upstream).over(end);
  assert.equal(later(1), undefined);
});
