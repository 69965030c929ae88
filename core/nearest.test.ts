import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearest } from './nearest.ts';

const known = ['listen', 'allowedHosts', 'audit', 'a'];
const cases: readonly (readonly [string, string | undefined, string])[] = [
  ['listn', 'listen', 'a letter left out'],
  ['lissten', 'listen', 'a letter too many'],
  ['lisetn', 'listen', 'two letters swapped are two changes'],
  ['LISTEN', 'listen', 'case is no difference'],
  ['alowdHosts', 'allowedHosts', 'a third of the letters may differ'],
  ['listening', 'listen', 'three of nine'],
  ['hosts', undefined, 'most of it is another word'],
  ['b', undefined, 'one letter is not near another'],
  ['xyz', undefined, 'nothing near'],
  ['', undefined, 'nothing said'],
];
for (const [word, expected, why] of cases)
  test(`"${word}" means ${expected ?? 'nothing known'}: ${why}`, () => {
    assert.equal(nearest(word, known), expected);
  });

test('the nearest of several wins, the first of equals', () => {
  assert.equal(nearest('policys', ['policing', 'policies', 'policy']), 'policy');
  assert.equal(nearest('cat', ['bat', 'hat']), 'bat');
});
