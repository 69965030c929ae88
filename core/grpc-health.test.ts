import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { credentials, Server, ServerCredentials, status } from '@grpc/grpc-js';
import { HealthClient, HealthService, HealthCheckResponse_ServingStatus as Status } from '#proto';
import { GrpcHealth } from './grpc-health.ts';

async function serve(t: TestContext) {
  const health = new GrpcHealth(['outrider.runner.v1.ExecService']);
  const server = new Server();
  server.addService(
    HealthService,
    health.service(() => {}),
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const client = new HealthClient(`127.0.0.1:${port}`, credentials.createInsecure());
  t.after(() => {
    client.close();
    server.forceShutdown();
  });
  const check = (service: string) =>
    new Promise<Status>((resolve, reject) => {
      client.check({ service }, (error, answer) =>
        error ? reject(error) : resolve(answer?.status ?? Status.UNKNOWN),
      );
    });
  return { health, client, check };
}

test('the server and the services it names are SERVING until they are not', async (t) => {
  const { health, check } = await serve(t);
  for (const service of ['', 'outrider.runner.v1.ExecService'])
    assert.equal(await check(service), Status.SERVING);
  health.setServing(false);
  for (const service of ['', 'outrider.runner.v1.ExecService'])
    assert.equal(await check(service), Status.NOT_SERVING);
  health.setServing(true);
  assert.equal(await check(''), Status.SERVING);
});

test('a service that it does not name is NOT_FOUND', async (t) => {
  const { check } = await serve(t);
  await assert.rejects(check('grpc.health.v1.Other'), { code: status.NOT_FOUND });
});

test('a watcher is told at once and at each change, and not twice the same', async (t) => {
  const { health, client } = await serve(t);
  const seen: Status[] = [];
  const call = client.watch({ service: '' });
  const known = async (count: number) => {
    while (seen.length < count) await new Promise((resolve) => call.once('data', resolve));
  };
  call.on('data', ({ status: now }: { status: Status }) => void seen.push(now));
  call.on('error', () => {});
  await known(1);
  health.setServing(true);
  health.setServing(false);
  await known(2);
  health.setServing(true);
  await known(3);
  call.cancel();
  assert.deepEqual(seen, [Status.SERVING, Status.NOT_SERVING, Status.SERVING]);
});

test('a watcher of a service that is not named is told SERVICE_UNKNOWN and kept', async (t) => {
  const { client } = await serve(t);
  const call = client.watch({ service: 'other' });
  call.on('error', () => {});
  const answer = await new Promise<{ status: Status }>((resolve) => call.once('data', resolve));
  assert.equal(answer.status, Status.SERVICE_UNKNOWN);
  assert.equal(call.destroyed, false);
  call.cancel();
});
