import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metrics } from './metrics.ts';

const SECONDS = [0, 0.0005, 0.0006, 0.01, 0.3, 59, 60, 61, 1_000];

/** The lines of one metric. */
function linesOf(text: string, name: string): string[] {
  return text.split('\n').filter((line) => line.includes(name));
}

for (const tool of [undefined, 'echo'])
  test(`a timing ${tool === undefined ? 'without a label' : 'by a label'} reads as a histogram of prom-client does`, async () => {
    const metrics = new Metrics('gateway');
    const name = 'outrider_tool_duration_seconds';
    const timing = metrics.timing(name, 'Time', tool === undefined ? undefined : 'tool');
    const other = new Metrics('gateway');
    const theirs = other.histogram(name, 'Time', tool === undefined ? [] : ['tool']);
    for (const seconds of SECONDS) {
      if (tool === undefined) timing.observe(seconds);
      else timing.of(tool).observe(seconds);
      theirs.observe(tool === undefined ? {} : { tool }, seconds);
    }
    const ours = linesOf((await metrics.text()).body, name);
    assert.equal(ours.length, 21);
    assert.deepEqual(ours.toSorted(), linesOf((await other.text()).body, name).toSorted());
  });

test('a timing without a label is there before anything was timed, as a histogram is', async () => {
  const metrics = new Metrics('gateway');
  metrics.timing('outrider_request_duration_seconds', 'Time');
  const { body } = await metrics.text();
  assert.match(body, /^outrider_request_duration_seconds_count\{part="gateway"\} 0$/m);
});
