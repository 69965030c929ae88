import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metrics, type MetricsSnapshot, sumMetrics, sumOfCounters } from './metrics.ts';

/** What one of several processes has counted, as it comes out of a message. */
async function process(requests: number, streams: number): Promise<MetricsSnapshot> {
  const metrics = new Metrics('proxy');
  metrics.tally('outrider_requests_total', 'x', { label: 'verdict' }).add(requests, 'allow');
  const timing = metrics.timing('outrider_request_duration_seconds', 'x', 'kind');
  for (let at = 0; at < requests; at++) timing.of('a').observe(0.01);
  metrics.gauge('outrider_revocation_streams', 'x').set(streams);
  metrics.gauge('outrider_tunnels_open', 'x').set(2);
  return JSON.parse(JSON.stringify(await metrics.snapshot()));
}

const valueOf = (body: string, series: string): string | undefined =>
  body
    .split('\n')
    .find((line) => line.startsWith(`${series} `))
    ?.split(' ')[1];

test('the metrics of several processes are summed, but for those of which the least counts', async () => {
  const { body, type } = await sumMetrics([await process(3, 2), await process(4, 1)]);
  assert.match(type, /^text\/plain; version=0\.0\.4/);
  assert.equal(valueOf(body, 'outrider_requests_total{verdict="allow",part="proxy"}'), '7');
  const labels = '{kind="a",part="proxy"}';
  assert.equal(valueOf(body, `outrider_request_duration_seconds_count${labels}`), '7');
  assert.equal(valueOf(body, 'outrider_tunnels_open{part="proxy"}'), '4');
  assert.equal(valueOf(body, 'outrider_revocation_streams{part="proxy"}'), '1');
  assert.equal(body.match(/^# TYPE outrider_requests_total counter$/gm)?.length, 1);
});

test('what ended processes had counted stays in the sum, and what they were does not', async () => {
  const past = sumOfCounters([sumOfCounters([await process(3, 2)]), await process(4, 2)]);
  const { body } = await sumMetrics([past, await process(1, 2)]);
  assert.equal(valueOf(body, 'outrider_requests_total{verdict="allow",part="proxy"}'), '8');
  assert.equal(valueOf(body, 'outrider_tunnels_open{part="proxy"}'), '2');
});
