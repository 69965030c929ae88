import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as after } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Caller } from './authority.ts';
import { ExchangeRecord } from './exchange-record.ts';
import type { Identity } from './identify.ts';

const identity = {
  principal: { issuer: 'i', subject: 's', tenant: 't', groups: [], claims: {} },
  execution: { requestId: 'r', tokenId: 'j', sandboxId: 'sbx', execId: 'e' },
  // Of an identity nothing else is looked at.
} as unknown as Identity;

function called(set: Partial<Caller['set']>, revision?: Partial<Caller['revision']>): string {
  const record = new ExchangeRecord('egr', 'forward', 'GET');
  // Nor of a caller.
  record.calledBy({
    identity,
    role: 'analyst',
    set: { roles: new Map(), ...set },
    revision,
  } as Caller);
  return record.labels?.text ?? '';
}

test('a remembered identity keeps no policy that is not in force any more', async () => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const kept = (): WeakRef<object> => {
    const set = { digest: 'a', roles: new Map() };
    called(set);
    return new WeakRef(set.roles);
  };
  const control = new Map();
  called({ digest: 'b', roles: control });
  const gone = kept();
  const there = new WeakRef(control);
  await after(10);
  collect();
  assert.equal(gone.deref(), undefined);
  assert.equal(there.deref(), control, 'control: what is in use stays');
});

test('each record is labelled with the policy that decided, also right behind one of another', () => {
  const digestsOf = (text: string) => /"policyDigest":"(.)"/.exec(text)?.[1];
  assert.deepEqual(
    ['a', 'a', 'b', 'a'].map((digest) => digestsOf(called({ digest }))),
    ['a', 'a', 'b', 'a'],
  );
  const ofCommit = (commit: string) => called({ digest: 'a' }, { commit, serial: 1 });
  assert.match(ofCommit('c1'), /"policyCommit":"c1"/);
  assert.match(ofCommit('c2'), /"policyCommit":"c2"/);
});
