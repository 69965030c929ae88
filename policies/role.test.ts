import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OutriderError } from '#core/errors';
import type { Principal } from '#core/principal';
import type { Member } from './document.ts';
import { documents, role } from './fixture.ts';
import { compilePolicySet } from './policy-set.ts';
import { chooseRole, hasRole, rolesOf, sandboxBounds } from './role.ts';

const NOW = Date.parse('2026-11-21T12:00:00Z');
const ISSUER = 'https://idp.example.com';
const ANN: Principal = {
  issuer: ISSUER,
  subject: 'ann',
  tenant: 'acme',
  groups: ['data', 'leads'],
  claims: { department: 'research' },
};

const members: readonly (readonly [Member, boolean, string])[] = [
  [{ issuer: ISSUER }, true, 'the issuer'],
  [{ issuer: ISSUER, subject: 'ann' }, true, 'issuer and subject'],
  [{ issuer: ISSUER, subject: 'bob' }, false, 'another subject'],
  [{ issuer: 'https://evil.example.com', subject: 'ann' }, false, 'the subject at another issuer'],
  [{ issuer: `${ISSUER}/` }, false, 'an issuer is compared letter by letter'],
  [{ group: 'data' }, true, 'one of the groups'],
  [{ group: 'Data' }, false, 'a group is compared letter by letter'],
  [{ group: 'data', tenant: 'acme' }, true, 'group and tenant'],
  [{ group: 'data', tenant: 'other' }, false, 'the group in another tenant'],
  [{ claim: { department: 'research' } }, true, 'a claim'],
  [{ claim: { department: 'research', level: '3' } }, false, 'one claim of two'],
  [{ claim: { toString: 'x' } }, false, 'a claim that every object inherits'],
  [{}, false, 'an entry that names nothing names nobody'],
];
for (const [member, is, why] of members) {
  test(`${JSON.stringify(member)} ${is ? 'names' : 'does not name'} Ann: ${why}`, () => {
    const set = setOf([['r', [member]]]);
    assert.deepEqual(rolesOf(set, ANN, NOW), is ? ['r'] : []);
    assert.equal(hasRole(set, ANN, 'r', NOW), is);
    assert.equal(hasRole(set, ANN, 'other', NOW), false);
  });
}

test('one entry of several is enough', () => {
  assert.deepEqual(rolesOf(setOf([['r', [{ group: 'x' }, { group: 'leads' }]]]), ANN, NOW), ['r']);
});

test('an expired Role names nobody', () => {
  const at = (expires: string) => rolesOf(setOf([['r', [{ group: 'data' }], expires]]), ANN, NOW);
  assert.deepEqual(at('2026-11-20'), []);
  assert.deepEqual(at('2026-11-21'), ['r']);
});

test('the only role is chosen, of several one must be named, and none other', () => {
  const one = setOf([
    ['r', [{ group: 'data' }]],
    ['s', [{ group: 'none' }]],
  ]);
  const two = setOf([
    ['r', [{ group: 'data' }]],
    ['s', [{ group: 'leads' }]],
  ]);
  assert.equal(chooseRole(one, ANN, '', NOW).metadata.name, 'r');
  assert.equal(chooseRole(two, ANN, 's', NOW).metadata.name, 's');
  assert.equal(
    codeOf(() => chooseRole(two, ANN, '', NOW)),
    'ROLE_AMBIGUOUS',
  );
  assert.equal(
    codeOf(() => chooseRole(one, ANN, 's', NOW)),
    'ROLE_DENIED',
    'it exists, but is not hers',
  );
  assert.equal(
    codeOf(() => chooseRole(one, ANN, 'zzz', NOW)),
    'ROLE_DENIED',
  );
  assert.equal(
    codeOf(() => chooseRole(setOf([]), ANN, '', NOW)),
    'ROLE_DENIED',
  );
});

test('the bounds of a Role are numbers, and its time-out has a default', () => {
  const plain = role('r');
  assert.deepEqual(sandboxBounds(plain), { timeoutMs: 600_000 });
  const sandbox = {
    memory: '512MiB',
    cpus: 0.5,
    pids: 64,
    disk: 1024,
    output: '1MiB',
    timeout: '60s',
    sessionIdle: '10m',
    sessionMax: '1h',
    concurrent: 2,
    sessions: 3,
  };
  assert.deepEqual(sandboxBounds({ ...plain, spec: { ...plain.spec, sandbox } }), {
    memoryBytes: 536_870_912,
    cpus: 0.5,
    pids: 64,
    diskBytes: 1024,
    outputBytes: 1_048_576,
    timeoutMs: 60_000,
    concurrent: 2,
    sessions: 3,
    sessionIdleMs: 600_000,
    sessionMaxMs: 3_600_000,
  });
});

function setOf(roles: readonly (readonly [string, readonly Member[], string?])[]) {
  const list = roles.map(([name, from, expires]) => {
    const made = role(name, expires === undefined ? {} : { expires });
    return { ...made, spec: { ...made.spec, members: from } };
  });
  return compilePolicySet(documents({ roles: list }), 'd');
}

function codeOf(call: () => unknown): string {
  try {
    call();
    return 'nothing thrown';
  } catch (error) {
    return (error as OutriderError).code;
  }
}
