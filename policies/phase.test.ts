import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide } from './decide.ts';
import type { Phase, Role } from './document.ts';
import { documents, egress, role } from './fixture.ts';
import { compilePolicySet, mayInstall, projectRole, rolePolicy } from './policy-set.ts';
import { requestTarget } from './request-line.ts';

const READ = { methods: ['GET'], paths: 'any' } as const;
const analyst: Role = {
  ...role('analyst'),
  spec: { ...role('analyst').spec, sandbox: { dependencies: { managers: ['pip'] } } },
};
const SET = compilePolicySet(
  documents({
    roles: [analyst, role('plain')],
    egressPolicies: [
      egress('data', [{ id: 'api', hosts: ['api.example.com'], ...READ }], [], {
        subjects: [{ role: 'analyst' }, { tenant: 'acme' }],
      }),
      egress('packages', [{ id: 'index', hosts: ['index.example.com'], ...READ }], [], {
        subjects: [{ role: 'analyst' }, { tenant: 'acme' }],
        phase: 'install',
      }),
    ],
  }),
  'digest',
);

const facts: readonly (readonly [Phase, string, string, string])[] = [
  ['run', 'analyst', 'api', 'allow'],
  ['run', 'analyst', 'index', 'deny'],
  ['install', 'analyst', 'index', 'allow'],
  ['install', 'analyst', 'api', 'deny'],
  ['run', 'plain', 'api', 'allow'],
  ['install', 'plain', 'index', 'deny'],
];
for (const [phase, name, host, verdict] of facts)
  test(`${name} in the phase ${phase}: ${verdict} ${host}`, () => {
    const canonical = requestTarget(`GET https://${host}.example.com/`);
    assert.ok(canonical.ok);
    // Twice, so that what was compiled for the other phase cannot come back out of the cache.
    for (const other of ['run', 'install', phase] as const) rolePolicy(SET, name, 'acme', other);
    const decision = decide(rolePolicy(SET, name, 'acme', phase), canonical.target, 0);
    assert.equal(decision.verdict, verdict);
  });

test('a policy is of the phase run where nothing else is said, and so is a projection', () => {
  assert.deepEqual(projectRole(SET, 'analyst', ''), projectRole(SET, 'analyst', '', 'run'));
  assert.deepEqual(
    projectRole(SET, 'analyst', '').policies.map(({ name }) => name),
    ['data'],
  );
});

test('only a role with dependencies may install', () => {
  assert.equal(mayInstall(analyst), true);
  assert.equal(mayInstall(role('plain')), false);
});
