import { describe } from 'node:test';
import { leaseFacts } from './contract.ts';
import { MemoryLeases } from './memory-store.ts';

// The same facts of Redis: test/parts/limits.test.ts.
describe('in memory', () => {
  const leases = new MemoryLeases();
  leaseFacts((member) => Promise.resolve(leases.of(member)));
});
