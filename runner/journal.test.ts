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
    const third = life();
    assert.deepEqual(ids(third.lost), [], 'what was told once is not told again');
    assert.deepEqual(ids(third.lostEarlier.map(({ exec }) => exec)), ['a', 'c'], 'but known');
  });

  test('knows what was lost for an hour, through any number of lives', (t) => {
    const { clock, life } = rig(t);
    life().begin(noted('plain'));
    const lostAt = (clock.now += 1);
    assert.deepEqual(ids(life().lost), ['plain']);
    clock.now += 1_800_000;
    life().begin(noted('later'));
    life();
    clock.now += 1_799_999;
    const { lost, lostEarlier } = life();
    assert.deepEqual(ids(lost), []);
    assert.deepEqual(
      lostEarlier.map(({ exec, at }) => [exec.execId, at]),
      [
        ['plain', lostAt],
        ['later', lostAt + 1_800_000],
      ],
    );
    clock.now += 1;
    assert.deepEqual(ids(life().lostEarlier.map(({ exec }) => exec)), ['later']);
  });

  test('knows the newest 2 000 of what was lost, in a file that does not grow', (t) => {
    const { path, clock, life } = rig(t);
    for (let at = 0; at < 3; at++) {
      const one = life();
      for (let each = 0; each < 900; each++) one.begin(noted(`e${at}-${each}`));
      clock.now += 1;
    }
    life();
    const { lostEarlier } = life();
    assert.equal(lostEarlier.length, 2_000);
    assert.equal(lostEarlier[0]?.exec.execId, 'e0-700');
    assert.equal(readFileSync(path, 'utf8').split('\n').length, 2_000);
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
    assert.deepEqual([ids(third.ended), ids(third.lost)], [[], []]);
    assert.deepEqual(third.lostEarlier[0]?.exec.idempotency, { key: 'l', digest: 'd' });
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

  test('is not written anew at each end, however many keys it holds', (t) => {
    const { path, life } = rig(t);
    const journal = life();
    const files = new Set<string>();
    for (let at = 0; at < 6_000; at++) {
      journal.begin(noted(`e${at}`, `k${at}`));
      journal.end(`e${at}`);
      const { ino, birthtimeNs } = statSync(path, { bigint: true });
      files.add(`${ino} ${birthtimeNs}`);
    }
    assert.ok(files.size > 1 && files.size < 6, `${files.size} files`);
    assert.equal(life().ended.length, 6_000);
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
