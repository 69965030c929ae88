import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { KilledBy } from '#proto';
import { call, codeOf, python } from './test-rig.ts';
import { endOf, FOREVER, serviceRig, session, startOf, until } from './testing.ts';

const service = serviceRig();
const { run, open } = service;

/** What `kill -9` does, and the supervisor after it. */
async function restart(...options: readonly string[]): Promise<void> {
  const { rig } = service;
  const exit = once(rig.runner ?? assert.fail(), 'exit');
  rig.runner?.kill('SIGKILL');
  await exit;
  await rig.startRunner(['--pool-size', '1', ...options]);
}

describe('D5: a runner that was killed says in its next life', () => {
  test('which execs it lost, to their owner, once in the audit, and that nothing of them is left', async () => {
    const keyed = python(FOREVER, { idempotencyKey: 'lost', labels: { team: 'data' } });
    const ended = python('print("done")', { idempotencyKey: 'ended' });
    await run(ended);
    const finished = await run(python('print(1)'));
    const plain = open(python(FOREVER));
    const named = open(keyed);
    const { execId, sandboxId, attestation } = await startOf(plain);
    const second = await startOf(named);
    await plain.next();
    await restart();
    await assert.rejects(plain.rest());
    await assert.rejects(named.rest());

    const get = (id: string, who = service.alice) =>
      call(service.rig.execs, 'getExec', { execId: id }, who);
    const lost = await get(execId);
    assert.deepEqual(
      [lost.end?.killedBy, lost.end?.errorCode, lost.started?.sandboxId],
      [KilledBy.RUNNER, 'EXEC_LOST', sandboxId],
    );
    assert.deepEqual({ ...(await get(second.execId)).labels }, { team: 'data' });
    assert.equal(await codeOf(get(execId, service.bob)), 'EXEC_NOT_FOUND');
    assert.deepEqual(
      await call(service.rig.execs, 'cancelExec', { execId, cancelKey: '' }, service.alice),
      {},
      'cancelling what has ended changes nothing',
    );
    const reading = async () => {
      for await (const _ of service.rig.execs.readArtefact({ execId, path: 'f' }, service.alice));
    };
    assert.equal(await codeOf(reading()), 'EXEC_LOST');
    assert.equal(await codeOf(get(finished.started?.execId ?? '')), 'EXEC_NOT_FOUND');

    assert.equal(await codeOf(run(keyed)), 'INVALID_REQUEST', 'Run is not Exec');
    assert.equal(await codeOf(open(keyed).rest()), 'EXEC_LOST', 'it is not begun again');
    assert.equal(await codeOf(run(ended)), 'EXEC_NOT_FOUND', 'nor is what had ended');
    assert.equal(endOf(await open(python('')).rest())?.killedBy, KilledBy.EXIT);

    const told = service.rig.audit().filter((one) => one['execId'] === execId);
    assert.deepEqual(
      told.map(({ code, killedBy, subject }) => [code, killedBy, subject]),
      [['EXEC_LOST', 'runner', 'alice']],
    );
    assert.ok(service.rig.isGone(sandboxId, attestation?.hostUid ?? 0));
    await restart();
    const still = await get(execId);
    assert.deepEqual(
      [still.end?.errorCode, still.started?.sandboxId],
      ['EXEC_LOST', sandboxId],
      'a further life still knows',
    );
    assert.equal(await codeOf(get(execId, service.bob)), 'EXEC_NOT_FOUND');
    assert.equal(await codeOf(open(keyed).rest()), 'EXEC_LOST', 'nor is it begun again there');
    assert.equal(service.rig.audit().filter((one) => one['execId'] === execId).length, 1);
  });

  test('that its sessions are no more', async () => {
    await run(python('', session('work')));
    await restart();
    assert.equal(await codeOf(run(python('', session('work', true)))), 'SESSION_NOT_FOUND');
    assert.equal(await codeOf(run(python('', session('work')))), 'none');
  });
});

test('C13: sandboxes have so much memory together as the runner is given, and the next is told to wait', async () => {
  await restart('--memory', '512MiB'); // two of the role's 256 MiB
  const streams = [open(python(FOREVER)), open(python(FOREVER), service.bob)];
  await Promise.all(streams.map(startOf));
  assert.equal(await codeOf(run(python(''))), 'RUNNER_BUSY');
  for (const stream of streams) stream.cancel();
  await Promise.allSettled(streams.map((stream) => stream.rest()));
  await until(async () => (await codeOf(run(python('')))) === 'none');
});
