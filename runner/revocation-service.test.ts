import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { credentials, Metadata } from '@grpc/grpc-js';
import { listen } from '#core/http';
import { RevocationServiceClient, type WatchRevocationsResponse } from '#proto';
import { codeOf, python } from './test-rig.ts';
import { FOREVER, serviceRig, startOf, until } from './testing.ts';

const port = await freePort();
const service = serviceRig(['--tcp', `127.0.0.1:${port}`]);

/** Follows a stream of revocations, collecting the execs that it names. */
function watch(client: RevocationServiceClient, who = new Metadata()) {
  const execs: string[] = [];
  const state = { synced: false };
  const call = client.watchRevocations({}, who);
  call.on('error', () => {});
  call.on('data', (news: WatchRevocationsResponse) => {
    state.synced ||= news.synced;
    for (const { subject, expiresAt } of news.revocations) {
      assert.equal(subject?.$case, 'execId');
      assert.ok((expiresAt?.getTime() ?? 0) > Date.now() + 60_000, 'longer than a token lives');
      execs.push(subject?.value ?? '');
    }
  });
  return { execs, state, stop: () => call.cancel() };
}

test('an exec is told of within a second of its end, and not while it runs; it needs no assertion on the socket', async (t) => {
  const watcher = watch(service.rig.revocations);
  t.after(watcher.stop);
  await until(() => watcher.state.synced);
  const stream = service.open(python(FOREVER));
  const { execId } = await startOf(stream);
  const other = (await service.run(python('print(1)'))).started?.execId ?? '';
  await until(() => watcher.execs.includes(other));
  assert.ok(!watcher.execs.includes(execId), 'it still runs');
  stream.cancel();
  await until(() => watcher.execs.includes(execId));
  await service.idle();
});

test('one that asks later is told of all that ended lately', async (t) => {
  const { started } = await service.run(python('print(1)'));
  const watcher = watch(service.rig.revocations);
  t.after(watcher.stop);
  await until(() => watcher.state.synced);
  assert.ok(watcher.execs.includes(started?.execId ?? ''));
});

test('over TCP it needs an assertion', async (t) => {
  const client = new RevocationServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
  t.after(() => client.close());
  const first = async (who: Metadata) => {
    const call = client.watchRevocations({}, who);
    for await (const news of call) {
      call.cancel();
      return news;
    }
    return undefined;
  };
  assert.equal(await codeOf(first(new Metadata())), 'UNAUTHENTICATED');
  assert.ok(await first(service.alice));
});

async function freePort(): Promise<number> {
  const server = createServer();
  await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}
