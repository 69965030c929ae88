import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { apiPolicies, startProxies } from '../support/proxies.ts';
import { startRedis } from '../support/redis.ts';

test('F9: the metrics of the proxy count what it did, with bounded labels, and `promtool check metrics` has nothing against ours', async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  const origin = createServer((_request, response) => response.end('hello'));
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  t.after(() => origin.close());
  const address = origin.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const proxies = await startProxies({
    count: 1,
    policies: apiPolicies(port),
    config: { limits: { datasource: '2/h burst 2', redis: `redis://127.0.0.1:${redis.port}` } },
  });
  t.after(() => proxies.stop());
  const [one] = proxies.each;
  assert.ok(one);
  const token = await proxies.token();
  const statuses = [];
  for (const path of ['/http/api/a', '/http/api/b', '/http/api/c', '/http/other/x'])
    statuses.push((await one.ask(path, token)).status);
  statuses.push((await one.ask('/http/api/a', 'x.y.z')).status);
  assert.deepEqual(statuses, [200, 200, 429, 404, 401]);
  const text = await (await fetch(`http://127.0.0.1:${one.adminPort}/metrics`)).text();
  for (const line of [
    'outrider_requests_total{verdict="allow",part="proxy"} 2',
    'outrider_requests_total{verdict="limit",part="proxy"} 1',
    'outrider_requests_total{verdict="deny",part="proxy"} 2',
    'outrider_limited_total{dimension="datasource",part="proxy"} 1',
    'outrider_denials_total{reason="rate_limited",part="proxy"} 1',
    'outrider_bytes_total{direction="out",part="proxy"} 10',
    'outrider_upstreams{state="open",part="proxy"} 0',
    'outrider_own_duration_seconds_count{part="proxy"} 5',
    'outrider_upstream_duration_seconds_count{part="proxy"} 2',
  ])
    assert.ok(
      text.split('\n').includes(line),
      `${line}\n${text.match(/^outrider.*$/gm)?.join('\n')}`,
    );
  assert.doesNotMatch(text, /\/http|127\.0\.0\.1|sbx-1/, 'no path, host or sandbox');

  const { stdout, stderr, error } = spawnSync('promtool', ['check', 'metrics'], {
    input: text,
    encoding: 'utf8',
  });
  assert.equal(error, undefined);
  const ours = `${stdout}${stderr}`.split('\n').filter((line) => line.startsWith('outrider_'));
  assert.deepEqual(ours, []);
  const wrong = spawnSync('promtool', ['check', 'metrics'], {
    input: '# TYPE outrider_bad counter\noutrider_bad 1\n',
    encoding: 'utf8',
  });
  assert.match(`${wrong.stdout}${wrong.stderr}`, /outrider_bad/, 'control: it would say so');
});
