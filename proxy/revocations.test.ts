import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import {
  RevocationServiceService,
  type WatchRevocationsRequest,
  WatchRevocationsResponse,
} from '#proto';
import { Revocations } from './revocations.ts';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startMesh,
  startOrigin,
} from './testing.ts';

// A real gRPC server stands for the runner: the runner's own is held in test/e2e.

const TARGET = '/http/api/v1';
type Subject = NonNullable<WatchRevocationsResponse['revocations'][number]['subject']>;

/** A runner's socket in the mesh's runtime directory that tells `inForce` to whoever subscribes. */
async function startRunner(t: TestContext, { directory }: Mesh, inForce: readonly Subject[] = []) {
  type Watcher = ServerWritableStream<WatchRevocationsRequest, WatchRevocationsResponse>;
  const watchers = new Set<Watcher>();
  const server = new Server();
  const message = (subjects: readonly Subject[]) =>
    WatchRevocationsResponse.fromPartial({
      synced: true,
      revocations: subjects.map((subject) => ({
        subject,
        expiresAt: new Date(Date.now() + 70_000),
      })),
    });
  server.addService(RevocationServiceService, {
    watchRevocations: (call: Watcher) => {
      watchers.add(call);
      call.on('cancelled', () => watchers.delete(call));
      call.write(message(inForce));
    },
  });
  const path = join(directory, 'run', 'runner.sock');
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    );
  });
  const stop = (): void => {
    server.forceShutdown();
    rmSync(path, { force: true });
  };
  t.after(stop);
  await until('the proxy subscribes', () => watchers.size > 0);
  return {
    stop,
    tell: (...subjects: readonly Subject[]) => {
      for (const watcher of watchers) watcher.write(message(subjects));
    },
  };
}

const exec = (value: string): Subject => ({ $case: 'execId', value });

async function mesh(t: TestContext, answer?: Parameters<typeof startOrigin>[1]) {
  const origin = await startOrigin(t, answer);
  const started = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([{ id: 'api', datasource: 'http/api' }]),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  return { origin, mesh: started };
}

for (const [what, subject] of [
  ['its exec', exec('exec-test')],
  ['its sandbox', { $case: 'sandboxId', value: 'sbx-test' }],
] as const)
  test(`E5: a token is refused upon the word that ${what} is over, also where it is remembered`, async (t) => {
    const { origin, mesh: started } = await mesh(t);
    const runner = await startRunner(t, started);
    assert.equal((await started.ask(TARGET)).status, 200);
    runner.tell(exec('another'), subject);
    await until('it is refused', async () => (await started.ask(TARGET)).status === 401);
    const refused = await started.ask(TARGET);
    assert.equal(refused.error.code, 'TOKEN_REVOKED');
    assert.equal(refused.headers['x-outrider-reason'], 'jwt_revoked');
    const asked = origin.seen.length;
    // A fresh token of the same exec is no better; one of another exec is as good as ever.
    assert.equal((await started.ask(TARGET, { token: await started.token() })).status, 401);
    assert.equal(origin.seen.length, asked);
    const other = await started.token({ execId: 'exec-other', sandboxId: 'sbx-other' });
    assert.equal((await started.ask(TARGET, { token: other })).status, 200);
  });

test('what ended while the proxy was away is told when it subscribes', async (t) => {
  const { mesh: started } = await mesh(t);
  assert.equal((await started.ask(TARGET)).status, 200);
  const runner = await startRunner(t, started, [exec('exec-test')]);
  await until('it is refused', async () => (await started.ask(TARGET)).status === 401);
  // The runner goes, and what it had said stays.
  runner.stop();
  assert.equal((await started.ask(TARGET)).status, 401);
  const other = await started.token({ execId: 'exec-next' });
  assert.equal((await started.ask(TARGET, { token: other })).status, 200);
  await startRunner(t, started, [exec('exec-next')]);
  await until('it subscribes again', async () => {
    return (await started.ask(TARGET, { token: other })).status === 401;
  });
});

test('what is under way when its exec ends is cut, and recorded as that', async (t) => {
  const { origin, mesh: started } = await mesh(t, (_seen, response) => {
    response.write('first of many');
  });
  const runner = await startRunner(t, started);
  const asked = started.ask(TARGET).catch(() => 'cut');
  await until('it is under way', () => origin.seen.length > 0);
  runner.tell(exec('exec-test'));
  assert.equal(await asked, 'cut');
  const record = started.records().findLast(({ event }) => event === 'request');
  assert.equal(record?.['code'], 'TOKEN_REVOKED');
  assert.equal(record?.['reason'], 'jwt_revoked');
});

test('a subject that is not understood revokes what was issued until then, and nothing later', () => {
  let now = 1_000_000_000;
  const told: unknown[] = [];
  const clock = () => now;
  const revocations = new Revocations(clock, clock);
  revocations.onRevoked = (subject) => void told.push(subject);
  const token = { execId: 'e', sandboxId: 's', tokenId: 't', issuedAt: now / 1_000 };
  revocations.assertGood(token);
  revocations.add({ kind: 'all' });
  assert.throws(() => revocations.assertGood(token), { code: 'TOKEN_REVOKED' });
  now += 2_000;
  revocations.assertGood({ ...token, issuedAt: now / 1_000 });
  assert.deepEqual(told, [{ kind: 'all' }]);
});

test('a revocation is kept for longer than a token lives, also one whose clock was set back once', () => {
  let now = 0;
  const revocations = new Revocations(() => now);
  const token = { execId: 'e', sandboxId: 's', tokenId: 't', issuedAt: 1 };
  revocations.add({ kind: 'exec', id: 'e' });
  now = 139_999;
  revocations.add({ kind: 'exec', id: 'other' });
  assert.throws(() => revocations.assertGood(token), { code: 'TOKEN_REVOKED' });
  now = 140_001;
  revocations.add({ kind: 'exec', id: 'third' });
  assert.equal(revocations.size, 2);
});

test('a clock that jumps ahead and back forgets no revocation, and a wrong one dates none wrongly', () => {
  const clock = { elapsed: 0, wall: 1_000_000_000 };
  const pass = (ms: number, jump = 0) => {
    clock.elapsed += ms;
    clock.wall += ms + jump;
  };
  const revocations = new Revocations(
    () => clock.elapsed,
    () => clock.wall,
  );
  const token = { execId: 'e', sandboxId: 's', tokenId: 't', issuedAt: clock.wall / 1_000 };
  pass(1_000);
  revocations.add({ kind: 'exec', id: 'e' });
  pass(1_000, 120_000);
  revocations.add({ kind: 'exec', id: 'other' });
  pass(1_000, -120_000);
  assert.ok(revocations.has(token));

  const one = { ...token, execId: 'one' };
  assert.ok(!revocations.has(one));
  pass(0, -120_000);
  revocations.add({ kind: 'all' });
  pass(1_000, 120_000);
  assert.ok(revocations.has(one), 'issued before it, as is seen once the clock is right');
  assert.ok(!revocations.has({ ...one, issuedAt: clock.wall / 1_000 + 1 }));
});

/** Resolves when it holds; at most a minute. */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 60_000;
  for (; Date.now() < end; await sleep(10)) if (await holds()) return;
  assert.fail(`waited a minute: ${what}`);
}
