import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { createBoxes, type LiveBox } from './test-rig.ts';

/** What of a program's output leaves the box, where it is told to keep only so much. */

const boxes = createBoxes(223_000);
after(() => boxes.close());
let box: LiveBox;
before(async () => {
  box = await boxes.profile('python');
});
beforeEach(() => box.link.ready());

const cases: readonly (readonly [string, string, string, string])[] = [
  ['less than the head', 'abc', '', 'abc'],
  ['just what is kept', 'aaaaabbb', '', 'aaaaabbb'],
  ['one byte more', 'aaaaaxbbb', '', 'aaaaa[1 skipped]bbb'],
  ['much more', `aaaaa${'x'.repeat(300_000)}bbb`, '', 'aaaaa[300000 skipped]bbb'],
  ['both streams, each for itself', 'aaaaaxbbb', 'cccccyyddd', 'aaaaa[1 skipped]bbb'],
];
for (const [what, out, err, stdout] of cases)
  test(what, async () => {
    const code = `import sys\nsys.stdout.write(sys.argv[1])\nsys.stderr.write(sys.argv[2])`;
    const keep = { head: 5, tail: 3 };
    const outcome = await box.run({ code, args: [out, err], keep });
    assert.equal(outcome.stdout, stdout);
    assert.equal(outcome.stderr, err === '' ? '' : 'ccccc[2 skipped]ddd');
  });

test('control: without being told, everything', async () => {
  const { stdout } = await box.run({ code: 'print("x" * 300_000)' });
  assert.equal(stdout.length, 300_001);
});

test('a flood does not wait for a reader, and is counted to the byte', async () => {
  const code = `
import os
piece = b'x' * 65536
for _ in range(1024): os.write(1, piece)
os.write(1, b'end')`;
  const { stdout } = await box.run({ code, keep: { head: 0, tail: 3 } });
  assert.equal(stdout, `[${64 * 2 ** 20} skipped]end`);
});

test('where only a tail is kept of one that nobody reads, the other stream still waits', async () => {
  const code = `
import os
os.write(2, b'e' * (2 << 20))
os.write(1, b'done')`;
  const { stderr, stdout } = await box.run({ code, keep: { head: 4 << 20, tail: 3 } });
  assert.equal(stderr.length, 2 ** 21);
  assert.equal(stdout, 'done');
});
