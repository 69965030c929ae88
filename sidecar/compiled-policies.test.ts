import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CompiledPolicies } from './compiled-policies.ts';
import { policyOf } from './test-rig.ts';

test('one projection is compiled once, another one for itself', () => {
  const policies = new CompiledPolicies();
  const first = policies.compile(policyOf());
  assert.equal(policies.compile(Buffer.from(policyOf())), first);
  const other = Buffer.from(policyOf().toString().replace('"role"', '"role" '));
  assert.notEqual(policies.compile(other), first);
});

test('what cannot be read is refused each time', () => {
  const policies = new CompiledPolicies();
  for (const _ of [1, 2])
    assert.throws(() => policies.compile(Buffer.from('{}')), { code: 'POLICY_INVALID' });
});

test('what is not used any more is forgotten', () => {
  const policies = new CompiledPolicies();
  const first = policies.compile(policyOf());
  for (let count = 1; count <= 64; count++)
    policies.compile(Buffer.from(`${policyOf().toString()}${' '.repeat(count)}`));
  assert.notEqual(policies.compile(policyOf()), first);
});
