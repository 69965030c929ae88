import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { directoryFiles, type PolicyFiles } from './files.ts';
import type { PolicyInForce } from './in-force.ts';
import { directorySource } from './release.ts';
import { PolicyStore } from './store.ts';

const role = (name: string) => `apiVersion: outrider/v1
kind: Role
metadata: {name: ${name}}
spec: {members: [{issuer: outrider:local}], sandbox: {}}
`;

test('a change is there after two looks that agree, and who asked is told', async (t) => {
  const changes: PolicyInForce[] = [];
  let seen = 0;
  const { path, store, looks } = await open(t, {
    onChange: (loaded) => {
      changes.push(loaded);
      seen = looks();
    },
  });
  const before = store.current.digest;
  assert.equal(store.knows(before), true);
  assert.equal(store.knows('0'.repeat(64)), false);
  const from = looks();
  writeFileSync(path('b.yaml'), role('two'));
  await until(() => store.current.set.roles.has('two'));
  // The two, and one that the files are the same once they were read; one may have begun before, and one have seen half a file.
  assert.ok(seen - from >= 2 && seen - from <= 4, `${seen - from} looks`);
  assert.equal(store.knows(before), true, 'execs that hold it go on');
  assert.equal(store.knows(store.current.digest), true);
  assert.deepEqual(changes, [store.current]);
});

test('it looks several times a second', async (t) => {
  const { looks } = await open(t);
  const from = looks();
  // Two seconds by this process's own timer, which a busy machine holds up as it does the store's.
  for (let ticks = 0; ticks < 40; ticks++) await sleep(50);
  assert.ok(looks() - from >= 3, `${looks() - from} looks`);
});

test('a file that is replaced, and one that is removed, are changes', async (t) => {
  const { path, store } = await open(t);
  writeFileSync(path('new'), role('uno'));
  renameSync(path('new'), path('a.yaml'));
  await until(() => store.current.set.roles.has('uno'));
  rmSync(path('a.yaml'));
  await until(() => store.current.set.roles.size === 0);
});

test('a broken file never replaces a good one, is said, and a mended one does', async (t) => {
  const errors: string[] = [];
  const log: Logger = {
    ...silentLogger,
    error: (message, fields) => errors.push(`${message} ${fields?.detail?.['problems']}`),
  };
  const metrics = new Metrics('test');
  const { path, store } = await open(t, { log, metrics });
  const before = store.current;
  writeFileSync(path('b.yaml'), role('two').replace('Role', 'Rule'));
  await until(() => store.failure !== undefined);
  assert.equal(store.current, before);
  assert.match(store.failure ?? '', /^b\.yaml:2:7: this must be one of/);
  assert.match(errors[0] ?? '', /the old policy stays b\.yaml:2:7/);
  assert.match(
    (await metrics.text()).body,
    /outrider_policy_reloads_total\{result="failed",part="test"\} 1/,
  );
  await sleep(600);
  assert.equal(errors.length, 1, 'it is said once');
  writeFileSync(path('b.yaml'), role('two'));
  await until(() => store.current.set.roles.has('two'));
  assert.equal(store.failure, undefined);
  const { body } = await metrics.text();
  assert.match(body, /outrider_policy_reloads_total\{result="ok",part="test"\} 1/);
  assert.match(
    body,
    new RegExp(
      `outrider_policy_info\\{digest="${store.current.digest}",commit="",serial="",part="test"\\} 1`,
    ),
  );
  assert.ok(!body.includes(before.digest));
});

test('a change that changes no meaning is no change of policy', async (t) => {
  let changes = 0;
  const metrics = new Metrics('test');
  const { path, store } = await open(t, { metrics, onChange: () => changes++ });
  const before = store.current;
  writeFileSync(path('a.yaml'), `# a comment\n${role('one')}`);
  for (let done = false; !done; await sleep(50))
    done = (await metrics.text()).body.includes('reloads_total{result="ok",part="test"} 1');
  assert.equal(store.current, before);
  assert.equal(changes, 0);
});

test('a directory that goes away keeps the policy', async (t) => {
  const { root, store } = await open(t);
  rmSync(root, { recursive: true });
  await until(() => store.failure !== undefined);
  assert.ok(store.current.set.roles.has('one'));
});

test('what could not be read for a moment is read again, though nothing changes, and is said once', async (t) => {
  const errors: string[] = [];
  const log: Logger = { ...silentLogger, error: (message) => void errors.push(message) };
  let failing = false;
  let reads = 0;
  const { path, store } = await open(t, {
    log,
    reading: async (read) => {
      reads += 1;
      if (failing) throw Object.assign(new Error('EMFILE'), { code: 'EMFILE', errno: -24 });
      return read();
    },
  });
  failing = true;
  writeFileSync(path('b.yaml'), role('two'));
  const from = reads;
  await until(() => reads >= from + 2);
  assert.deepEqual([errors.length, store.current.set.roles.has('one')], [1, true]);
  failing = false;
  await until(() => store.current.set.roles.has('two'));
  assert.equal(store.failure, undefined);
});

test('a directory that is broken at the start does not open', async (t) => {
  const root = directory(t);
  writeFileSync(join(root, 'a.yaml'), 'kind: Nothing');
  await assert.rejects(
    PolicyStore.open({ source: directorySource(directoryFiles(root)), log: silentLogger }),
    {
      code: 'POLICY_INVALID',
    },
  );
});

test('after close nothing is read', async (t) => {
  const { path, store } = await open(t);
  await store.close();
  writeFileSync(path('b.yaml'), role('two'));
  await sleep(700);
  assert.ok(!store.current.set.roles.has('two'));
});

async function open(
  t: TestContext,
  options: {
    log?: Logger;
    metrics?: Metrics;
    onChange?: (loaded: PolicyInForce) => void;
    reading?: (read: PolicyFiles['read']) => ReturnType<PolicyFiles['read']>;
  } = {},
) {
  const root = directory(t);
  writeFileSync(join(root, 'a.yaml'), role('one'));
  const { reading = (read) => read(), ...given } = options;
  const beneath = directoryFiles(root);
  const files = directorySource({ ...beneath, read: () => reading(() => beneath.read()) });
  let looks = 0;
  const signature = () => {
    looks += 1;
    return files.signature();
  };
  const source = { ...files, signature };
  const store = await PolicyStore.open({ source, log: silentLogger, ...given });
  t.after(() => store.close());
  return { root, store, path: (name: string) => join(root, name), looks: () => looks };
}

/** Resolves when the condition holds; at most a minute. */
async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, 'waited a minute');
    await sleep(20);
  }
}

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'outrider-store-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
