import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AuditChain } from '#core/audit';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { runnerMetrics } from './metrics.ts';
import { Runner, type RunnerDeps } from './runner.ts';
import type { Kept } from './sessions.ts';

/** A runner whose audit is refused from its second record on while `full` is set, and one session that it keeps. */
function rig() {
  const disk = { full: false };
  const audit = new AuditChain('runner', {
    append() {
      if (disk.full) throw new Error('ENOSPC');
    },
  });
  const deps = {
    audit,
    log: silentLogger,
    metrics: runnerMetrics(new Metrics('runner')),
    pool: { close: async () => {} },
    journal: { begin: () => {}, end: () => {}, lost: [], lostEarlier: [] },
    capacity: 1,
    memoryBytes: 0,
    runnerId: 'test',
  } as unknown as RunnerDeps; // the end of a session uses no more of it
  const runner = new Runner(deps);
  let ends = 0;
  const kept = {
    sandbox: { id: 'sbx-a', ended: new Promise(() => {}), end: async () => void (ends += 1) },
    owner: 'alice',
    name: 'work',
    role: 'analyst',
    expiresAt: Date.now() + 60_000,
    lastUsedAt: Date.now(),
    idleMs: 60_000,
    busy: false,
  } as unknown as Kept; // as above
  runner.sessions.add(kept);
  return { disk, runner, kept, ends: () => ends };
}

for (const [what, full] of [
  ['a session ends', false],
  ['a session ends also where its end cannot be recorded, and that is known', true],
] as const)
  test(what, async () => {
    const { disk, runner, kept, ends } = rig();
    disk.full = full;
    await runner.sessions.end(kept, 'expired');
    assert.equal(ends(), 1);
    assert.equal(runner.auditBroken, full);
    await runner.drain(0);
  });
