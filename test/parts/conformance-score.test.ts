import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scoreOf } from '../conformance/score.ts';

const SAID = `
✗ tools-list: this line stands before the summary
=== SUMMARY ===
✓ ping: 2 passed, 0 failed
✗ tools-list: 1 passed, 2 failed
✓ caching: 8 passed, 0 failed
✗ tasks-lifecycle: 1 passed, 8 failed

Total: 12 passed, 10 failed

Not scored for 2026-07-28: 1 scenario(s) run, 1 failing.
  ✗ tasks-lifecycle (extension)
`;

test('what counts is what the revision requires, by name where it failed', () => {
  assert.deepEqual(scoreOf(SAID), { passed: 2, failed: ['tools-list'] });
});

test('a suite that said nothing passed nothing', () => {
  assert.deepEqual(scoreOf(''), { passed: 0, failed: [] });
});
