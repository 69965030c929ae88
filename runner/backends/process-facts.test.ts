import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertIsolated, type ProcessFacts, processFacts } from './process-facts.ts';

const PROMISED = { namespaces: ['pid', 'mnt', 'net'] } as const;
const FACTS: ProcessFacts = {
  hostUid: 1_900_000_000,
  ownNamespaces: ['pid', 'mnt', 'net'],
  noNewPrivileges: true,
  effectiveCapabilities: '0000000000000000',
  seccompFilters: true,
};

test('a process that is as promised passes', () => {
  assert.doesNotThrow(() => assertIsolated(FACTS, PROMISED));
});

describe('a box is refused that', () => {
  const cases: readonly (readonly [string, Partial<ProcessFacts>])[] = [
    ["shares the host's network", { ownNamespaces: ['pid', 'mnt'] }],
    ['runs as root', { hostUid: 0 }],
    ['may gain privileges', { noNewPrivileges: false }],
    ['holds a capability', { effectiveCapabilities: '0000000000200000' }],
    ['cannot be read', { effectiveCapabilities: '' }],
    ['has no seccomp filter', { seccompFilters: false }],
  ];
  for (const [what, over] of cases)
    test(what, () => {
      assert.throws(() => assertIsolated({ ...FACTS, ...over }, PROMISED), {
        code: 'SANDBOX_FAILED',
      });
    });
});

test('capabilities that a backend needs for itself are allowed, and no others', () => {
  const promised = { ...PROMISED, capabilities: '240000' };
  const holding = (effectiveCapabilities: string) => ({ ...FACTS, effectiveCapabilities });
  assert.doesNotThrow(() => assertIsolated(holding('0000000000240000'), promised));
  assert.throws(() => assertIsolated(holding('0000000000240001'), promised));
});

test("this very process has no namespace of its own, so that it would not pass for a box's", () => {
  const facts = processFacts(process.pid);
  assert.deepEqual(facts.ownNamespaces, []);
  assert.throws(() => assertIsolated(facts, PROMISED), { code: 'SANDBOX_FAILED' });
});
