import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { compilePolicySet } from '#policies';
import { rightsByPrincipal } from './tool-rights.ts';

/** Policies by which the local principal may call `tools`, until the end of `expires`. */
function setOf(tools: readonly string[], expires: string) {
  const members = [{ issuer: LOCAL_PRINCIPAL.issuer, subject: LOCAL_PRINCIPAL.subject }];
  const role = {
    apiVersion: 'outrider/v1',
    kind: 'Role',
    metadata: { name: 'r', expires },
    spec: { members, tools, sandbox: {} },
  } as const;
  const none = {
    egressPolicies: [],
    credentialBindings: [],
    datasources: [],
    boundaries: [],
    tests: [],
  };
  return compilePolicySet({ ...none, roles: [role] }, '0'.repeat(64));
}

const DAY = '2026-11-21';
const at = (time: string) => Date.parse(time);

test('rights are worked out once for a principal, its policies and the day, and again for any other', () => {
  const rightsOf = rightsByPrincipal();
  const set = setOf(['alpha'], DAY);
  const rights = rightsOf(set, LOCAL_PRINCIPAL, at(`${DAY}T00:00:00Z`));
  assert.deepEqual(rights, { tools: new Map([['alpha', [{}]]]) });
  assert.equal(rightsOf(set, LOCAL_PRINCIPAL, at(`${DAY}T23:59:59.999Z`)), rights, 'the same day');
  assert.deepEqual(
    rightsOf(set, LOCAL_PRINCIPAL, at('2026-11-22T00:00:00Z')),
    { tools: new Map() },
    'the Role has ended',
  );
  assert.deepEqual(
    rightsOf(setOf(['beta'], DAY), LOCAL_PRINCIPAL, at(`${DAY}T12:00:00Z`)),
    { tools: new Map([['beta', [{}]]]) },
    'other policies',
  );
  const other = { ...LOCAL_PRINCIPAL, subject: 'other' };
  assert.deepEqual(rightsOf(set, other, at(`${DAY}T12:00:00Z`)), { tools: new Map() });
  assert.deepEqual(rightsOf(set, LOCAL_PRINCIPAL, at(`${DAY}T12:00:00Z`)), rights);
});

test('policies that are no longer in force are not kept by those who called under them', async () => {
  setFlagsFromString('--expose-gc');
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what V8 offers under this flag
  const collect = runInNewContext('gc') as () => void;
  const rightsOf = rightsByPrincipal();
  const callers = ['a', 'b', 'c'].map((subject) => ({ ...LOCAL_PRINCIPAL, subject }));
  const sets = callers.map((caller) => {
    const set = setOf(['alpha'], DAY);
    rightsOf(set, caller, at(`${DAY}T00:00:00Z`));
    return new WeakRef(set);
  });
  await new Promise(setImmediate);
  collect();
  const kept = sets.map((set) => set.deref() !== undefined);
  assert.deepEqual(kept, [false, false, true], 'the last one is in force');
  assert.equal(callers.length, 3);
});
