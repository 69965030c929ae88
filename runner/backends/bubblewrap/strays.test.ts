import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { endStrays, killStarting } from './strays.ts';

/** A real bubblewrap whose box waits, as ours does, for its block descriptor; resolves when its inner process is there. */
async function starting(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'o-'));
  const place = join(directory, 'sbx-1');
  mkdirSync(place);
  const argv = ['--unshare-pid', '--ro-bind', '/usr', '/usr', '--ro-bind', place, '/run/outrider'];
  const outer = spawn('bwrap', [...argv, '--block-fd', '3', '/usr/bin/sleep', '1000'], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  const { pid } = outer;
  assert.ok(pid);
  t.after(() => {
    outer.kill('SIGKILL');
    rmSync(directory, { recursive: true });
  });
  const children = () => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  await until(() => children() !== '');
  return { directory, outer, pid, inner: Number(children()) };
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    assert.ok(tries < 2_000, 'waited in vain');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Running, and no zombie that only waits to be reaped. One that is ended runs nothing any more, but is seen as running for a moment. */
const isAlive = (pid: number): boolean =>
  /^[RSDT]/.test(spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' }).stdout);

test('control: killing bubblewrap alone leaves the process that it had just started', async (t) => {
  const { outer, inner } = await starting(t);
  outer.kill('SIGKILL');
  await once(outer, 'exit');
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(isAlive(inner));
  process.kill(inner, 'SIGKILL');
});

test('a bubblewrap that is starting is ended with what it has started', async (t) => {
  const { outer, pid, inner } = await starting(t);
  killStarting(pid);
  await once(outer, 'exit');
  await until(() => !isAlive(inner));
});

test('strays of a directory are ended, and those of another are not', async (t) => {
  const [one, other] = [await starting(t), await starting(t)];
  for (const { outer } of [one, other]) {
    outer.kill('SIGKILL');
    await once(outer, 'exit');
  }
  await endStrays(one.directory);
  await until(() => !isAlive(one.inner));
  assert.ok(isAlive(other.inner));
  await endStrays(other.directory);
  await until(() => !isAlive(other.inner));
});

test('a bubblewrap that starts a box just then leaves nothing either', async (t) => {
  const { directory, outer, inner } = await starting(t);
  await endStrays(directory);
  await until(() => outer.signalCode === 'SIGKILL' && !isAlive(inner));
});

test('a process that is gone is no error', () => {
  const { pid } = spawnSync('true');
  killStarting(pid);
});
