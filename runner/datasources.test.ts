import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { PolicySet } from '#policies';
import { loadFiles } from '#policystore';
import type { Caller } from './callers.ts';
import { Datasources } from './datasources.ts';

const ISSUER = 'https://idp.example';

const role = (name: string, subject: string) => `
apiVersion: outrider/v1
kind: Role
metadata: {name: ${name}, owner: tests}
spec: {members: [{issuer: "${ISSUER}", subject: ${subject}}], sandbox: {}}
---`;

const datasource = (type: string, name: string) => `
apiVersion: outrider/v1
kind: Datasource
metadata: {name: ${name}, owner: tests, description: About ${name}.}
spec: {type: ${type}, endpoint: "https://${name}.example.com", auth: {type: none}}
---`;

const policy = (of: string, rules: readonly string[], expires = '2999-01-01') => `
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: ${of}-egress, owner: tests, expires: ${expires}}
spec:
  subjects: [{role: ${of}}]
  mode: enforce
  allow:
${rules.map((one, at) => `    - {id: rule-${at}, datasource: ${one}, methods: [GET], paths: ["/**"]}`).join('\n')}
---`;

function setOf(...documents: readonly string[]): PolicySet {
  return loadFiles([{ name: 'all.yaml', text: documents.join('') }]).set;
}

const callerOf = (subject: string, granted = ''): Caller => ({
  principal: { issuer: ISSUER, subject, tenant: '', groups: [], claims: {} },
  role: granted,
  proof: '',
});

const COMMON = [
  role('a', 'alice'),
  role('b', 'bob'),
  datasource('http', 'one'),
  datasource('http', 'two'),
];

function rig(t: TestContext, ...documents: readonly string[]) {
  const policies = { current: { set: setOf(...COMMON, ...documents) } };
  const datasources = new Datasources(policies);
  t.after(() => datasources.close());
  const leave = new AbortController();
  const watch = (subject: string, asked = '') =>
    datasources.watch(callerOf(subject), asked, leave.signal);
  const next = async (lists: ReturnType<typeof watch>) =>
    ((await lists.next()).value ?? []).map(({ type, name }) => `${type}/${name}`);
  const change = (...changed: readonly string[]) => {
    policies.current = { set: setOf(...COMMON, ...changed) };
    datasources.changed();
  };
  return { datasources, policies, leave, watch, next, change };
}

test('F8: each caller is told what the own role may ask, and again when a change of policy changes that', async (t) => {
  const { watch, next, change } = rig(
    t,
    policy('a', ['http/one']),
    policy('b', ['http/two', 'http/one']),
  );
  const [alice, bob] = [watch('alice'), watch('bob')];
  assert.deepEqual(await next(alice), ['http/one']);
  assert.deepEqual(await next(bob), ['http/one', 'http/two']);
  const [aliceNext, bobNext] = [next(alice), next(bob)];
  change(policy('a', ['http/one']), policy('b', ['http/two']));
  assert.deepEqual(await bobNext, ['http/two']);
  change(policy('a', ['http/two']), policy('b', ['http/two']));
  // Had the first change been one for her, it would have come first.
  assert.deepEqual(await aliceNext, ['http/two']);
});

test('F8: a rule that expires is gone from the list within five minutes, by a clock that is set forward', async (t) => {
  t.mock.timers.enable({
    apis: ['setInterval', 'Date'],
    now: Date.parse('2030-06-30T23:58:00Z'),
  });
  const { watch, next } = rig(t, policy('a', ['http/one'], '2030-06-30'));
  const alice = watch('alice');
  assert.deepEqual(await next(alice), ['http/one']);
  let told: readonly string[] | undefined;
  void next(alice).then((list) => {
    told = list;
  });
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  t.mock.timers.tick(60_000);
  await settled();
  assert.equal(told, undefined, 'control: it holds until the end of its day');
  t.mock.timers.tick(5 * 60_000);
  await settled();
  assert.deepEqual(told, []);
});

test('F8: of a role that is taken away nothing is left; one that the caller never had is refused', async (t) => {
  const { datasources, policies, watch, next } = rig(t, policy('a', ['http/one']));
  await assert.rejects(next(watch('mallory')), { code: 'ROLE_DENIED' });
  await assert.rejects(next(watch('alice', 'b')), { code: 'ROLE_DENIED' });
  const alice = watch('alice', 'a');
  assert.deepEqual(await next(alice), ['http/one']);
  const left = next(alice);
  policies.current = { set: setOf(role('b', 'bob')) };
  datasources.changed();
  assert.deepEqual(await left, []);
});

test('F8: a watch ends with its call, and all of them with the runner', async (t) => {
  const { datasources, watch, next, leave } = rig(t, policy('a', ['http/one']));
  const alice = watch('alice');
  await next(alice);
  const waiting = alice.next();
  leave.abort();
  assert.equal((await waiting).done, true);
  const late = datasources.watch(callerOf('alice'), '', new AbortController().signal);
  await late.next();
  const last = late.next();
  datasources.close();
  await assert.rejects(last, { code: 'DRAINING' });
});

test('F8: one caller watches 64 times at once, which is nothing to another', async (t) => {
  const { watch, next } = rig(t, policy('a', ['http/one']), policy('b', ['http/one']));
  for (let at = 0; at < 64; at++) await next(watch('alice'));
  await assert.rejects(next(watch('alice')), { code: 'QUOTA_EXCEEDED' });
  assert.deepEqual(await next(watch('bob')), ['http/one']);
});
