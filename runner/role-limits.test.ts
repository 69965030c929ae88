import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Role } from '#policies';
import type { KnownBackend } from './choose-backend.ts';
import { NOTHING_ASKED, roleLimits, type SandboxAsk, shapeFor } from './role-limits.ts';

const MIB = 2 ** 20;
const role = (sandbox: Role['spec']['sandbox'] = {}): Role => ({
  apiVersion: 'outrider/v1',
  kind: 'Role',
  metadata: { name: 'r' },
  spec: { members: [{ issuer: 'i' }], sandbox },
});
const BUBBLEWRAP: KnownBackend = {
  name: 'bubblewrap',
  tier: 'namespaces',
  images: [],
  limitsAddressSpace: false,
  problem: undefined,
};
const shape = (ask: Partial<SandboxAsk>, of: Role = role(), known = ['python']) =>
  shapeFor(roleLimits(of), { ...NOTHING_ASKED, ...ask }, [BUBBLEWRAP], known);
const nodeOn = (backend: KnownBackend) =>
  shapeFor(roleLimits(role({ profiles: ['node'] })), NOTHING_ASKED, [backend], ['node']);
const asked = (over: Partial<SandboxAsk['resources']>) => ({
  resources: { ...NOTHING_ASKED.resources, ...over },
});

test('a role that says nothing has these bounds', () => {
  assert.deepEqual(roleLimits(role()), {
    resources: { memoryBytes: 512 * MIB, cpuMillis: 1_000, pids: 128, diskBytes: 256 * MIB },
    minimumTier: 'namespaces',
    profiles: ['python'],
    images: undefined,
    outputBytes: MIB,
    timeoutMaxMs: 600_000,
    timeoutDefaultMs: 60_000,
    concurrent: 8,
    sessions: 10,
    sessionIdleMs: 1_800_000,
    sessionMaxMs: 14_400_000,
  });
});

test("a role's own bounds are taken, and its time-out is also the default where it is shorter", () => {
  const limits = roleLimits(
    role({ memory: '64MiB', cpus: 0.25, pids: 10, timeout: '5s', concurrent: 1, output: '1KiB' }),
  );
  assert.equal(limits.resources.memoryBytes, 64 * MIB);
  assert.equal(limits.resources.cpuMillis, 250);
  assert.deepEqual([limits.timeoutMaxMs, limits.timeoutDefaultMs], [5_000, 5_000]);
  assert.deepEqual([limits.concurrent, limits.outputBytes], [1, 1_024]);
});

describe('a sandbox gets', () => {
  test('what the role gives, where nothing is asked', () => {
    assert.deepEqual(shape({}), {
      backend: 'bubblewrap',
      image: '',
      profile: 'python',
      resources: roleLimits(role()).resources,
    });
  });
  test('less, where less is asked, also exactly the bound', () => {
    const { resources } = shape(asked({ memoryBytes: 64 * MIB, pids: 128 }));
    assert.deepEqual([resources.memoryBytes, resources.pids], [64 * MIB, 128]);
  });
  for (const name of ['memoryBytes', 'cpuMillis', 'pids', 'diskBytes'] as const)
    test(`never so little ${name} that it could not start`, () => {
      assert.throws(() => shape(asked({ [name]: 1 })), { code: 'INVALID_REQUEST' });
    });
  for (const name of ['memoryBytes', 'cpuMillis', 'pids', 'diskBytes'] as const)
    test(`never more ${name} than the role's`, () => {
      const most = roleLimits(role()).resources[name];
      assert.throws(() => shape(asked({ [name]: most + 1 })), { code: 'INVALID_REQUEST' });
      assert.doesNotThrow(() => shape(asked({ [name]: most })));
    });
});

describe('a sandbox is refused', () => {
  const cases: readonly (readonly [string, () => unknown, string])[] = [
    ["a profile that is not the role's", () => shape({ profile: 'node' }), 'PROFILE_UNKNOWN'],
    [
      'a profile that this runner does not know',
      () => shape({ profile: 'node' }, role({ profiles: ['python', 'node'] })),
      'PROFILE_UNKNOWN',
    ],
    [
      "the role's only profile, unknown here",
      () => shape({}, role({ profiles: ['node'] })),
      'PROFILE_UNKNOWN',
    ],
    ['another backend', () => shape({ backend: 'docker' }), 'BACKEND_UNAVAILABLE'],
    ['a tier above the backend', () => shape({ minimumTier: 'container' }), 'BACKEND_TOO_WEAK'],
    [
      'a role whose tier is above the backend',
      () => shape({}, role({ minimumTier: 'gvisor' })),
      'BACKEND_TOO_WEAK',
    ],
    [
      'a role whose tier is above the backend, also where less is asked',
      () => shape({ minimumTier: 'namespaces' }, role({ minimumTier: 'gvisor' })),
      'BACKEND_TOO_WEAK',
    ],
    [
      'Node, where memory is limited as address space',
      () => nodeOn({ ...BUBBLEWRAP, limitsAddressSpace: true }),
      'BACKEND_UNAVAILABLE',
    ],
  ];
  for (const [what, run, code] of cases)
    test(`${code}: ${what}`, () => {
      assert.throws(run, { code });
    });
  test('control: Node, where control groups limit memory', () => {
    assert.equal(nodeOn(BUBBLEWRAP).profile, 'node');
  });
  test('control: the backend by its name and its own tier are accepted', () => {
    assert.doesNotThrow(() => shape({ backend: 'bubblewrap', minimumTier: 'namespaces' }));
    assert.doesNotThrow(() =>
      shapeFor(
        roleLimits(role({ minimumTier: 'container' })),
        NOTHING_ASKED,
        [{ ...BUBBLEWRAP, name: 'gvisor', tier: 'gvisor' }],
        ['python'],
      ),
    );
  });
});
