import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AuditChain } from '#core/audit';
import { AuditFile } from '#core/audit-file';
import { rotatedFiles } from '#core/audit-series';
import { AuditTail } from './audit-tail.ts';

/** A part's audit whose files hold a few records each, and who reads it. */
function setUp(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'o-tail-'));
  const path = join(directory, 'proxy.jsonl');
  const chain = new AuditChain('proxy', new AuditFile(path, { maxBytes: 2_000, files: 5 }));
  const tail = new AuditTail(path);
  t.after(async () => {
    tail.close();
    await chain.close();
    rmSync(directory, { recursive: true });
  });
  let count = 0;
  const record = (times: number) => {
    for (let at = 0; at < times; at += 1)
      chain.append({ event: 'request', target: `t/${(count += 1)}` });
  };
  const targets = async (upTo: string): Promise<unknown[]> => {
    const records = await tail.upTo('it is recorded', ({ target }) => target === upTo);
    return records.filter(({ event }) => event === 'request').map(({ target }) => target);
  };
  return { path, record, targets };
}

test('each record is read once, also where the file was full between two reads, several times', async (t) => {
  const { path, record, targets } = setUp(t);
  record(3);
  assert.deepEqual(await targets('t/3'), ['t/1', 't/2']);
  record(20);
  assert.ok(rotatedFiles(path).length > 1, 'more than one file is full');
  const wanted = Array.from({ length: 19 }, (_, at) => `t/${at + 4}`);
  assert.deepEqual(await targets('t/23'), wanted);
  record(2);
  assert.deepEqual(await targets('t/25'), ['t/24']);
});

test('what nobody can read any more is an error, not an end', async (t) => {
  const { record, targets } = setUp(t);
  record(1);
  await targets('t/1');
  record(200);
  await assert.rejects(targets('t/201'), /removed before they were read/);
});
