import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import type { Metadata } from '@grpc/grpc-js';
import { KilledBy, type WatchEventsResponse } from '#proto';
import { call, codeOf, python } from './test-rig.ts';
import { FOREVER, serviceRig, session } from './testing.ts';

const service = serviceRig();
const { run } = service;

/** A watcher that has begun to watch. */
async function watch(who: Metadata, sandboxId = '') {
  const stream = service.rig.execs.watchEvents({ sandboxId }, who);
  stream.on('error', () => {}); // told by `next`
  const events: AsyncIterator<WatchEventsResponse> = stream[Symbol.asyncIterator]();
  const next = async () => (await events.next()).value as WatchEventsResponse | undefined; // the iterator has no return value
  assert.equal((await next())?.event, undefined);
  return { next, cancel: () => stream.cancel() };
}

test("an owner is told of every sandbox and exec of theirs, in order, and of nobody else's", async () => {
  const mine = await watch(service.alice);
  const theirs = await watch(service.bob);
  const code = 'print("a secret"); open("/output/f", "w").write("x"); raise ValueError("secret")';
  const { started } = await run(python(code, { labels: { team: 'data' } }));
  const events = [await mine.next(), await mine.next(), await mine.next(), await mine.next()];
  assert.deepEqual(
    events.map((one) => one?.event?.$case),
    ['sandboxCreated', 'execStarted', 'execEnded', 'sandboxEnded'],
  );
  for (const one of events) assert.equal(one?.sandboxId, started?.sandboxId);
  const [created, begun, ended, gone] = events;
  assert.ok(created?.event?.$case === 'sandboxCreated' && gone?.event?.$case === 'sandboxEnded');
  assert.equal(created.event.value.sandbox?.profile, 'python');
  assert.equal(gone.event.value.reason, 'exec_ended');
  assert.equal(begun?.execId, started?.execId);
  assert.deepEqual({ ...begun?.labels }, { team: 'data' });
  assert.ok(ended?.event?.$case === 'execEnded');
  const { killedBy, exitCode, exception, artefacts, stdout } = ended.event.value;
  assert.deepEqual([killedBy, exitCode, stdout?.total], [KilledBy.EXIT, 1, 9n]);
  assert.equal(exception, undefined, 'what the program said is left out');
  assert.deepEqual(
    artefacts.map(({ path, content }) => [path, content.length]),
    [['f', 0]],
  );
  assert.ok(ended.time instanceof Date);

  await run(python(''), service.bob);
  const first = await theirs.next();
  assert.ok(first?.event?.$case === 'sandboxCreated');
  assert.notEqual(first.sandboxId, started?.sandboxId);
  mine.cancel();
  theirs.cancel();
});

test('of one sandbox alone, where it is named, until it ends', async () => {
  const { started } = await run(python('', session('watched')));
  const one = await watch(service.alice, started?.sandboxId);
  await run(python('')); // in another sandbox
  await run(python('', session('watched')));
  await call(service.rig.boxes, 'deleteSandbox', { name: 'watched', sandboxId: '' }, service.alice);
  const kinds = [];
  for (let next = await one.next(); ; next = await one.next()) {
    assert.equal(next?.sandboxId, started?.sandboxId);
    kinds.push(next?.event?.$case);
    if (next?.event?.$case !== 'sandboxEnded') continue;
    assert.equal(next.event.value.reason, 'deleted');
    break;
  }
  assert.deepEqual(kinds, ['execStarted', 'execEnded', 'sandboxEnded']);
  one.cancel();
});

test('of a sandbox that was lost the end says so', async () => {
  const events = await watch(service.alice);
  const ended = run(python(FOREVER));
  const created = await events.next();
  assert.ok(created?.event?.$case === 'sandboxCreated');
  const { sandboxId } = created;
  const own = spawnSync('pgrep', ['-f', sandboxId], { encoding: 'utf8' }).stdout.split('\n');
  for (const pid of own.filter(Boolean)) process.kill(Number(pid), 'SIGKILL');
  assert.equal((await ended).end?.killedBy, KilledBy.RUNNER);
  for (let next = await events.next(); ; next = await events.next()) {
    assert.ok(next, 'the watch has ended');
    if (next.event?.$case !== 'sandboxEnded' || next.sandboxId !== sandboxId) continue;
    assert.equal(next.event.value.reason, 'lost');
    break;
  }
  events.cancel();
});

test('a request that the policy refuses is told with its reason', async () => {
  const events = await watch(service.alice);
  const code = `import urllib.request
try: urllib.request.urlopen("http://example.com/x")
except OSError as error: print(error)`;
  const { stdout, started } = await run(python(code));
  assert.match(stdout.toString(), /403/);
  for (let next = await events.next(); ; next = await events.next()) {
    assert.ok(next, 'the watch has ended');
    // The sandbox of a test before may end only now.
    if (next.sandboxId !== started?.sandboxId) continue;
    if (next.event?.$case !== 'egressDenied') {
      assert.notEqual(next.event?.$case, 'sandboxEnded', 'the refusal comes before the end');
      continue;
    }
    assert.match(next.event.value.target, /example\.com/);
    assert.notEqual(next.event.value.reason, '');
    assert.match(next.execId, /^exec-/);
    break;
  }
  events.cancel();
});

test('an owner watches at most 16 times', async () => {
  const watchers = await Promise.all(Array.from({ length: 16 }, () => watch(service.bob)));
  assert.equal(await codeOf(watch(service.bob)), 'QUOTA_EXCEEDED');
  (await watch(service.alice)).cancel();
  for (const watcher of watchers) watcher.cancel();
});
