import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide } from './decide.ts';
import { requestTarget } from './request-line.ts';
import { compileRole } from './role-policy.ts';
import type { Findings } from './testing/findings.ts';
import { fuzzAddresses } from './testing/fuzz-addresses.ts';
import { fuzzDecide } from './testing/fuzz-decide.ts';
import { fuzzTargets } from './testing/fuzz-targets.ts';
import { NOW, randomProjection, randomRequestOf } from './testing/projections.ts';
import { Random } from './testing/random.ts';
import { referenceDecide } from './testing/reference-decide.ts';
import { referenceTarget } from './testing/reference-target.ts';

/** A short run of what `npm run fuzz` does at length. */

const runs = [
  ['canonical targets', fuzzTargets, 30_000, 15],
  ['addresses, their classes and ranges', fuzzAddresses, 3_000, 8],
  ['decisions', fuzzDecide, 20_000, 25],
] as const;

for (const [what, run, cases, outcomes] of runs)
  test(`${cases} random cases: ${what} are those of a reference that shares no code with the engine`, () => {
    const { differences, seen }: Findings = run(cases, 20_261_121);
    assert.deepEqual(differences.slice(0, 5), []);
    assert.ok(seen.size >= outcomes, `only ${[...seen.keys()].join(', ')} came up`);
  });

test('a rule that is changed behind the back of the reference is noticed', () => {
  const random = new Random(7);
  let noticed = 0;
  for (let i = 0; i < 500; i++) {
    const role = randomProjection(random);
    const narrower = role.policies.map((policy) => ({ ...policy, allow: policy.allow.slice(1) }));
    const policy = compileRole({ ...role, policies: narrower });
    for (let j = 0; j < 20; j++) {
      const canonical = requestTarget(randomRequestOf(random));
      assert.ok(canonical.ok);
      const { verdict } = decide(policy, canonical.target, NOW);
      const expected = referenceDecide(role, canonical.target, NOW);
      if (!expected.some((text) => text.startsWith(verdict))) noticed += 1;
    }
  }
  assert.ok(noticed > 10, `${noticed} of 10 000`);
});

test('the reference itself refuses what has two meanings', () => {
  for (const text of [
    'GET https://127.1/',
    'GET https://a.test/%2e%2e/x',
    'GET https://[::ffff:7f00:1]/',
    'GET https://a.test:0443/',
    'CONNECT a.test',
  ])
    assert.equal(referenceTarget(text), undefined, text);
  assert.ok(referenceTarget('GET https://a.test/'));
});
