import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { auditFilesOf, eachLine, linesOf, readStill } from './audit-files.ts';

/** A series of a full file and a current one, of a line each. */
function series(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-audit-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const [full, current] = [join(directory, 'p.000001.jsonl'), join(directory, 'p.jsonl')];
  writeFileSync(full, '1\n');
  writeFileSync(current, '2\n');
  return { directory, full, current };
}

const changes: readonly (readonly [string, (at: ReturnType<typeof series>) => void, string[]])[] = [
  [
    'the current file is full and another begins',
    ({ directory, current }) => {
      renameSync(current, join(directory, 'p.000002.jsonl'));
      writeFileSync(current, '3\n');
    },
    ['1', '2', '3'],
  ],
  ['the oldest is removed', ({ full }) => rmSync(full), ['2']],
  ['nothing does: control', () => {}, ['1', '2']],
];
for (const [what, change, expected] of changes)
  test(`what is read while ${what} is all of one moment`, (t) => {
    const place = series(t);
    let reads = 0;
    const lines = readStill([place.directory], (files) => {
      reads += 1;
      if (reads === 1) change(place);
      return files.flatMap(linesOf);
    });
    assert.deepEqual(lines, expected);
    assert.equal(reads, what.endsWith('control') ? 1 : 2);
  });

test('what never stands still is read in the end, and what cannot be read is an error', (t) => {
  const { directory } = series(t);
  let reads = 0;
  const names = readStill([directory], (files) => {
    reads += 1;
    writeFileSync(join(directory, `q${reads}.jsonl`), '');
    return files.map(({ path }) => basename(path));
  });
  assert.equal(names.length, reads + 1);
  const failing = () => {
    throw new Error('a disk');
  };
  assert.throws(() => readStill([directory], failing), /a disk/);
});

test('of a file that has been removed since it was found nothing is searched', (t) => {
  const { directory, full } = series(t);
  const files = auditFilesOf([directory]);
  rmSync(full);
  assert.deepEqual(
    files.flatMap((file) => [...eachLine(file)]),
    ['2'],
  );
});
