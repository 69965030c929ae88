import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { ExecJournal, type NotedExec } from './journal.ts';

const noted = (execId: string, key?: string): NotedExec => ({
  execId,
  sandboxId: 'sbx-a',
  session: '',
  role: 'tester',
  requestId: 'r',
  policyDigest: '',
  startedAt: 1,
  issuer: 'i',
  subject: 'alice',
  tenant: '',
  labels: {},
  purpose: '',
  idempotency: key === undefined ? undefined : { key, digest: 'd' },
});
const ids = (execs: readonly NotedExec[]) => execs.map(({ execId }) => execId);

function rig(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-journal-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'state', 'execs.jsonl');
  const clock = { now: 1_000_000 };
  /** A life of the runner: the one before it ended without a word. */
  const life = () => new ExecJournal(path, () => clock.now);
  return { path, clock, life };
}

describe('D5: the journal', () => {
  test('tells the next life what ran, and not what had ended', (t) => {
    const { life } = rig(t);
    const first = life();
    assert.deepEqual([first.lost, first.ended], [[], []]);
    for (const id of ['a', 'b', 'c']) first.begin(noted(id));
    first.end('b');
    const second = life();
    assert.deepEqual(ids(second.lost), ['a', 'c']);
    assert.deepEqual(second.lost[0], JSON.parse(JSON.stringify(noted('a'))));
    assert.deepEqual(ids(life().lost), [], 'what was told once is not told again');
  });

  test('remembers keys for 10 minutes after the end', (t) => {
    const { clock, life } = rig(t);
    const first = life();
    first.begin(noted('ended', 'k'));
    first.end('ended');
    first.begin(noted('running', 'l'));
    first.begin(noted('never', 'm'));
    first.end('never', false);
    clock.now += 599_999;
    const second = life();
    assert.deepEqual([ids(second.ended), ids(second.lost)], [['ended'], ['running']]);
    clock.now += 1;
    const third = life();
    assert.deepEqual([ids(third.ended), ids(third.lost)], [['running'], []]);
    clock.now += 600_000;
    assert.deepEqual(ids(life().ended), []);
  });

  test('does not grow with what has ended', (t) => {
    const { path, life } = rig(t);
    const journal = life();
    journal.begin(noted('stays'));
    for (let at = 0; at < 5_000; at++) {
      journal.begin(noted(`e${at}`));
      journal.end(`e${at}`);
    }
    const lines = readFileSync(path, 'utf8').split('\n').filter(Boolean).length;
    assert.ok(lines < 2_100, `${lines} lines`);
    assert.deepEqual(ids(life().lost), ['stays']);
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  test('a line that broke off is nothing, and spoils no other', (t) => {
    const { path, life } = rig(t);
    const first = life();
    first.begin(noted('a'));
    appendFileSync(path, '\n{"begin":{"execId":"b"');
    first.begin(noted('c'));
    assert.deepEqual(ids(life().lost), ['a', 'c']);
  });

  test('a place that cannot be used is said at the start', (t) => {
    const { path, life } = rig(t);
    life();
    assert.throws(() => new ExecJournal(join(path, 'below a file')), { code: 'CONFIG_INVALID' });
  });

  test('what cannot be noted must not start', (t) => {
    const journal = rig(t).life();
    journal.close();
    assert.throws(() => journal.begin(noted('a')), { code: 'AUDIT_UNAVAILABLE' });
  });
});
