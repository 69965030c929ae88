import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metrics } from './metrics.ts';

test('a tally is in the metrics as what was added so far, by its label, however often somebody asks', async () => {
  const metrics = new Metrics('test');
  const requests = metrics.tally('outrider_requests_total', 'Requests.', { label: 'verdict' });
  requests.add(1, 'allow');
  requests.add(2, 'deny');
  requests.add(1, 'allow');
  for (const expected of [2, 2]) {
    const { body } = await metrics.text();
    assert.match(
      body,
      new RegExp(`outrider_requests_total\\{[^}]*verdict="allow"[^}]*\\} ${expected}\\n`),
    );
    assert.match(body, /outrider_requests_total\{[^}]*verdict="deny"[^}]*\} 2\n/);
  }
  requests.add(5, 'deny');
  assert.match((await metrics.text()).body, /verdict="deny"[^}]*\} 7\n/);
});

test('a tally without a label is there before anything was added, and that of a gauge can fall', async () => {
  const metrics = new Metrics('test');
  const pending = metrics.tally('outrider_audit_pending_records', 'Records.', { kind: 'gauge' });
  assert.match((await metrics.text()).body, /outrider_audit_pending_records\{[^}]*\} 0\n/);
  pending.add(5);
  pending.add(-3);
  assert.match((await metrics.text()).body, /outrider_audit_pending_records\{[^}]*\} 2\n/);
});
