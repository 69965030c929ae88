import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { MESH_UID, powerIn } from '#core/mesh-user';
import { WHERE_ROOT_IS_GIVEN_UP } from '#core/testing/without-root';
import { KilledBy } from '#proto';
import { call, openExec, python, type Rig, startRig } from './test-rig.ts';
import { FOREVER, POLICIES, startOf, until } from './testing.ts';

async function rigOf(t: TestContext, ...options: readonly string[]): Promise<Rig> {
  const rig = await startRig(POLICIES, options);
  t.after(() => rig.stop());
  return rig;
}

const statusOf = (rig: Rig) => readFileSync(`/proc/${rig.runner?.pid ?? 0}/status`, 'utf8');

async function kill(rig: Rig): Promise<void> {
  const exit = once(rig.runner ?? assert.fail(), 'exit');
  rig.runner?.kill('SIGKILL');
  await exit;
}

describe('D13: a runner that root starts alone', WHERE_ROOT_IS_GIVEN_UP, () => {
  test('has no root left when it is ready, and runs programs', async (t) => {
    const rig = await rigOf(t);
    assert.equal(powerIn(statusOf(rig), MESH_UID), undefined);
    const { stdout } = await call(
      rig.execs,
      'run',
      { spec: python('print(1)') },
      await rig.as('alice'),
    );
    assert.equal(stdout.toString(), '1\n');
    assert.equal(await rig.stop(), 0, 'and ends in order');
  });

  test('stays root where it is told to, and says so', async (t) => {
    const rig = await rigOf(t, '--user', '0', '--sharing', 'none');
    assert.equal(powerIn(statusOf(rig), MESH_UID), 'Uid');
    assert.match(rig.log, /stays root/);
  });

  test('says after a life as root what that one lost, and clears up after it', async (t) => {
    const rig = await rigOf(t, '--user', '0', '--sharing', 'none');
    const alice = await rig.as('alice');
    const { execId, sandboxId } = await startOf(openExec(rig.execs, alice, python(FOREVER)));
    await kill(rig);
    assert.equal(statSync(join(rig.runtime, 'runner.sock')).uid, 0, 'control: it is root’s');
    await rig.startRunner([]);
    const { end } = await call(rig.execs, 'getExec', { execId }, alice);
    assert.deepEqual([end?.killedBy, end?.errorCode], [KilledBy.RUNNER, 'EXEC_LOST']);
    assert.equal(existsSync(join(rig.sandboxes, sandboxId)), false);
  });

  test('ends although it may not kill a launcher that hangs, and that one ends when it goes on', async (t) => {
    const rig = await rigOf(t, '--drain-timeout', '1s', '--pool-size', '0');
    const { runner } = rig;
    const found = spawnSync('pgrep', ['-P', String(runner?.pid), '-f', ' launcher '], {
      encoding: 'utf8',
    });
    const launcher = Number(found.stdout.trim());
    process.kill(launcher, 'SIGSTOP');
    try {
      const exit = once(runner ?? assert.fail(), 'exit');
      runner?.kill('SIGTERM');
      const [code]: unknown[] = await exit;
      assert.equal(code, 0);
      assert.ok(existsSync(`/proc/${launcher}`), 'control: it hangs');
    } finally {
      process.kill(launcher, 'SIGCONT');
    }
    await until(() => !existsSync(`/proc/${launcher}`));
    assert.equal(existsSync(rig.sandboxes), false, 'and cleared up');
  });
});

describe('D13: a runner that root starts refuses to serve', WHERE_ROOT_IS_GIVEN_UP, () => {
  const cases: readonly (readonly [string, (rig: Rig) => readonly string[], RegExp])[] = [
    [
      'as one of its sandboxes',
      () => ['--user', '1900000000', '--first-uid', '1900000000'],
      /sandboxes' uids/,
    ],
    [
      'where its user may not make the socket',
      ({ directory }) => ['--listen', `unix:${join(directory, 'closed', 'runner.sock')}`],
      /may not make the socket runner\.listen/,
    ],
    [
      'where its user may not write the journal, which is among other files',
      ({ directory }) => ['--journal', join(directory, 'closed', 'execs.jsonl')],
      /may not write beside runner\.journal/,
    ],
    [
      'where its user may not read the local assertion',
      ({ directory }) => ['--local-assertion', join(directory, 'open', 'assertion.jwt')],
      /may not read runner\.localAssertion/,
    ],
  ];
  for (const [what, options, message] of cases)
    test(`${what}; control: as root it would`, async (t) => {
      const rig = await rigOf(t);
      const at = (name: string) => join(rig.directory, name);
      mkdirSync(at('closed'), { mode: 0o700 });
      writeFileSync(at('closed/another'), '');
      mkdirSync(at('open'));
      writeFileSync(at('open/assertion.jwt'), '', { mode: 0o600 });
      chmodSync(at('open'), 0o755);
      await kill(rig);
      await assert.rejects(rig.startRunner(options(rig)), { message });
      await rig.startRunner([...options(rig), '--user', '0', '--sharing', 'none']);
    });
});
