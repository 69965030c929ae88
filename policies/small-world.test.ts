import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDocuments } from './check.ts';
import { diffPolicySets } from './diff.ts';
import { neverViolations } from './never.ts';
import { fuzzBindings } from './testing/fuzz-bindings.ts';
import { fuzzBoundaries } from './testing/fuzz-boundaries.ts';
import { fuzzDiffs } from './testing/fuzz-diffs.ts';
import { fuzzNever } from './testing/fuzz-never.ts';

/** A short run of what `npm run fuzz -- boundaries bindings never diffs` does at length. */

const SEED = 20_261_121;

test('60 random policies: what is said to reach beyond a Boundary does, and nothing else', () => {
  const { differences, seen } = fuzzBoundaries(60, SEED);
  assert.deepEqual(differences.slice(0, 3), []);
  assert.ok(Math.min(seen.get('beyond') ?? 0, seen.get('within') ?? 0) >= 5, 'both came up');
});

test('100 random bindings: overlaps and rules beyond their binding are those that requests show', () => {
  const { differences, seen } = fuzzBindings(100, SEED);
  assert.deepEqual(differences.slice(0, 3), []);
  assert.equal(seen.size, 4, 'every answer came up');
});

test('60 random never-clauses: those that some request breaks are broken, and no others', () => {
  const { differences, seen } = fuzzNever(60, SEED);
  assert.deepEqual(differences.slice(0, 3), []);
  assert.ok(Math.min(seen.get('broken') ?? 0, seen.get('holds') ?? 0) >= 5, 'both came up');
});

test('60 random pairs of sets: the diff tells what deciding every request in both shows', () => {
  const { differences, seen } = fuzzDiffs(60, SEED);
  assert.deepEqual(differences.slice(0, 3), []);
  assert.ok(seen.size >= 8, `only ${[...seen.keys()].join(', ')} came up`);
});

const liars: readonly (readonly [string, () => readonly string[]])[] = [
  ['a check that lets pass', () => fuzzBoundaries(20, SEED, () => []).differences],
  ['a check that misses overlaps', () => fuzzBindings(20, SEED, () => []).differences],
  ['a proof that proves anything', () => fuzzNever(20, SEED, () => []).differences],
  [
    'a counterexample that is none',
    () =>
      fuzzBoundaries(20, SEED, (documents) =>
        checkDocuments(documents).map((problem) => ({
          ...problem,
          message: problem.message.replace(/refuses "[^"]+"/, 'refuses "GET /http/none/"'),
        })),
      ).differences,
  ],
  [
    'a violation that is none',
    () =>
      fuzzNever(20, SEED, (set, clause) =>
        neverViolations(set, clause).map((one) => ({
          ...one,
          example: { request: 'GET /http/none/' },
        })),
      ).differences,
  ],
  ['a diff that is silent', () => fuzzDiffs(20, SEED, () => []).differences],
  [
    'a diff that forgets one rule',
    () =>
      fuzzDiffs(20, SEED, (before, after) => diffPolicySets(before, after).slice(1)).differences,
  ],
  [
    'a diff with an example that shows nothing',
    () =>
      fuzzDiffs(20, SEED, (before, after) =>
        diffPolicySets(before, after).map((one) => ({ ...one, example: 'GET /http/none/' })),
      ).differences,
  ],
];
for (const [what, run] of liars)
  test(`the comparison notices ${what}`, () => assert.ok(run().length > 0));
