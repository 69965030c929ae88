import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HealthCheckResponse_ServingStatus, KilledBy } from '#proto';
import { call, codeOf, python } from './test-rig.ts';
import { endOf, FOREVER, serviceRig, startOf, textOf } from './testing.ts';

const service = serviceRig();
const { run, open } = service;

test('D6: a draining runner says so, takes nothing new, lets a program end, and leaves nothing', async () => {
  const health = (name: string) =>
    call(service.rig.health, 'check', { service: name }, service.alice);
  assert.equal(
    (await health('outrider.runner.v1.ExecService')).status,
    HealthCheckResponse_ServingStatus.SERVING,
  );
  assert.equal(await service.rig.admin('/readyz'), 200);
  const stream = open(
    python('import sys\nprint("up", flush=True)\nsys.stdin.read()\nprint("done")', {
      openStdin: true,
    }),
  );
  const stuck = open(python(FOREVER), service.bob);
  const started = await startOf(stream);
  await startOf(stuck);
  await stream.next();
  const exit = new Promise<number | null>((resolve) => service.rig.runner?.once('exit', resolve));
  service.rig.runner?.kill('SIGTERM');
  while ((await health('')).status === HealthCheckResponse_ServingStatus.SERVING) await sleep(10);
  assert.equal((await health('')).status, HealthCheckResponse_ServingStatus.NOT_SERVING);
  assert.equal(await codeOf(run(python(''))), 'DRAINING');
  stream.halfClose();
  const rest = await stream.rest();
  assert.equal(textOf(rest, 'stdout'), 'done\n');
  assert.equal(endOf(rest)?.killedBy, KilledBy.EXIT);
  const end = endOf(await stuck.rest());
  assert.deepEqual([end?.killedBy, end?.errorCode], [KilledBy.RUNNER, 'DRAINING']);
  assert.equal(await exit, 0);
  assert.ok(service.rig.isGone(started.sandboxId, started.attestation?.hostUid ?? 0));
  assert.deepEqual(service.rig.log.match(/eyJ[\w-]+\.|Unhandled|"INTERNAL"/g), null);
});
