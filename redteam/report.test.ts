import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Attack, refused } from './attack.ts';
import type { Row } from './battery.ts';
import { countOf, exitCodeOf, jsonOf, summaryOf, tableOf } from './report.ts';
import { weakTarget } from './weak.ts';

const columns = { counted: ['bubblewrap', 'gvisor'], compared: ['docker run'] };
const attack: Attack = {
  id: 24,
  group: 'kernel',
  name: 'io_uring',
  attempt: () => Promise.resolve(refused('')),
  control: { how: 'as root', target: (ground) => weakTarget(ground) },
};
const row = (
  results: Readonly<Record<string, 'refused' | 'ESCAPED' | 'control-failed' | 'n/a'>>,
  proof: Row['proof']['result'] = 'works',
): Row => ({
  attack,
  proof: { result: proof, detail: 'because' },
  verdicts: new Map(
    Object.entries(results).map(([name, result]) => [name, { result, detail: `why ${name}` }]),
  ),
});

const fine = row({ bubblewrap: 'refused', gvisor: 'refused', 'docker run': 'ESCAPED' });
const cases = [
  [0, [fine], 'everything is refused; what docker run lets out is for comparison'],
  [0, [fine, row({ bubblewrap: 'n/a', gvisor: 'refused' })], 'what cannot be tried'],
  [1, [fine, row({ bubblewrap: 'ESCAPED', gvisor: 'refused' })], 'one escape'],
  [1, [fine, row({ bubblewrap: 'control-failed', gvisor: 'n/a' }, 'failed')], 'one idle control'],
  [1, [row({ bubblewrap: 'n/a', gvisor: 'n/a' }, 'failed')], 'a control that fails beside n/a'],
  [1, [row({ bubblewrap: 'n/a', gvisor: 'n/a' })], 'nothing was refused at all'],
  [1, [], 'nothing was tried'],
] as const;
for (const [code, rows, why] of cases)
  test(`exit ${code}: ${why}`, () => {
    assert.equal(exitCodeOf(countOf(rows, columns)), code);
  });

test('the table ends with the counts and says why a cell is not refused', () => {
  const rows = [fine, row({ bubblewrap: 'ESCAPED', gvisor: 'n/a' })];
  const lines = tableOf(rows, columns).trimEnd().split('\n');
  assert.equal(lines.at(-1), '2 refused, 1 escaped, 0 without a working control');
  assert.equal(lines.at(-1), summaryOf(rows, columns));
  assert.ok(lines.some((line) => line.trim() === 'bubblewrap: why bubblewrap'));
  assert.ok(lines.some((line) => line.trim() === 'docker run: why docker run'));
  assert.match(lines[0] ?? '', /id {2}attack +control +bubblewrap +gvisor +docker run$/);
});

test('the JSON has every verdict, its reason, and the counts', () => {
  const told: Record<string, unknown> = JSON.parse(jsonOf([fine], columns));
  assert.deepEqual(told, {
    attacks: [
      {
        id: 24,
        group: 'kernel',
        name: 'io_uring',
        control: { result: 'works', detail: 'because', how: 'as root' },
        targets: {
          bubblewrap: { result: 'refused', detail: 'why bubblewrap' },
          gvisor: { result: 'refused', detail: 'why gvisor' },
          'docker run': { result: 'ESCAPED', detail: 'why docker run' },
        },
      },
    ],
    refused: 2,
    escaped: 0,
    withoutControl: 0,
    notApplicable: 0,
  });
});
