import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatLine } from './log-line.ts';

const record = { level: 'warn', time: '2026-11-20T12:34:56.789Z', part: 'proxy', msg: 'slow' };

const cases = [
  ['a record is one readable line', record, '12:34:56 proxy    warn  slow'],
  [
    'further fields follow as name=value',
    { ...record, code: 'INTERNAL', detail: { n: 1 } },
    '12:34:56 proxy    warn  slow code=INTERNAL detail={"n":1}',
  ],
  [
    'a record of another part, passed on by this one, names it',
    { ...record, part: 'sidecar' },
    '12:34:56 proxy    warn  [sidecar] slow',
  ],
] as const;
for (const [fact, given, line] of cases)
  test(fact, () => assert.equal(formatLine('proxy', JSON.stringify(given)), line));

test('what is no record of ours passes with the name of the part', () => {
  for (const line of ['Segmentation fault', '{"a":1}', '[]', 'null'])
    assert.equal(formatLine('proxy', line), `proxy    ${line}`);
});

test('color marks the level and is taken back', () => {
  const line = formatLine('proxy', JSON.stringify(record), true);
  assert.ok(line.startsWith('\x1b[33m') && line.endsWith('\x1b[0m'), line);
});
