import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { absent, escaped, refused, unclear } from './attack.ts';
import { judge, type Proof, proofOf, type Seen } from './verdict.ts';

const well: Seen = {
  finding: refused('EPERM'),
  harm: undefined,
  unwell: undefined,
  ownKernel: false,
};
const works: Proof = { result: 'works', detail: 'seen' };
const failed: Proof = { result: 'failed', detail: 'refused there too' };
const none: Proof = { result: 'n/a', detail: 'the host has none' };
const own = { virtual: 'its own' };

describe('judge', () => {
  const cases = [
    ['refused', {}, works, {}, 'a refusal with a control that works'],
    ['control-failed', {}, failed, {}, 'a refusal that nothing proves is none'],
    ['n/a', {}, none, {}, 'what the host lacks cannot be tried'],
    ['ESCAPED', { finding: escaped('it worked') }, works, {}, 'a success that is told'],
    ['ESCAPED', { finding: escaped('it worked') }, failed, {}, 'a success needs no control'],
    ['ESCAPED', { finding: unclear('silence') }, works, {}, 'silence is no refusal'],
    ['ESCAPED', { harm: 'a file changed' }, works, {}, 'harm counts whatever the program says'],
    ['ESCAPED', { unwell: 'silent' }, works, {}, 'a neighbour that does not answer'],
    ['n/a', { finding: absent('none') }, works, {}, 'what is not there cannot be attacked'],
    [
      'ESCAPED',
      { finding: escaped('worked') },
      works,
      own,
      "success on the host's kernel, whatever another kernel may do",
    ],
    [
      'ESCAPED',
      { finding: escaped('worked'), ownKernel: true },
      works,
      {},
      'success on another kernel, where nothing says that it is harmless',
    ],
    [
      'refused',
      { finding: escaped('worked'), ownKernel: true },
      works,
      own,
      "success in a kernel of its own that leaves the host's alone",
    ],
    [
      'ESCAPED',
      { finding: escaped('worked'), ownKernel: true, harm: 'the host changed' },
      works,
      own,
      'success in a kernel of its own that the host shows',
    ],
    [
      'control-failed',
      { finding: escaped('worked'), ownKernel: true },
      failed,
      own,
      'a kernel of its own is no control',
    ],
  ] as const;
  for (const [result, seen, proof, attack, why] of cases)
    test(`${result}: ${why}`, () => {
      assert.equal(judge(attack, { ...well, ...seen }, proof).result, result);
    });
});

describe('proofOf', () => {
  const cases = [
    ['works', escaped('it worked'), undefined, 'the program tells of success'],
    ['works', refused('no'), 'a file changed', 'the host shows it'],
    ['failed', refused('EPERM'), undefined, 'refused where nothing refuses'],
    ['failed', unclear('a syntax error'), undefined, 'a broken attack proves nothing'],
    ['n/a', absent('no such thing'), undefined, 'the host lacks it'],
  ] as const;
  for (const [result, finding, harm, why] of cases)
    test(`${result}: ${why}`, () => assert.equal(proofOf({ finding, harm }).result, result));
});
