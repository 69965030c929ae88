import assert from 'node:assert/strict';
import cluster from 'node:cluster';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '#core/log';
import { Workers } from './workers.ts';

// Real processes of `node:cluster`: each says that it serves, and then nothing more.

const WORKER = `
process.on('message', () => {});
process.send([{ id: 0, name: 'started', value: 'here' }]);
`;

/** One worker that serves, and how often it was started again. */
async function startOne(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'o-workers-'));
  const exec = join(directory, 'worker.js');
  writeFileSync(exec, WORKER);
  cluster.setupPrimary({ exec, args: [], execArgv: [] });
  let restarts = 0;
  const workers = new Workers({
    count: 1,
    log: silentLogger,
    onRestart: () => void (restarts += 1),
    attend: () => ({
      begin: () => assert.fail('it does not ask'),
      lease: () => [],
      count: () => ({ ok: true, id: null }),
      counting() {},
      deliver: () => assert.fail('it does not ask'),
      useOnce: () => assert.fail('it does not ask'),
      flush() {},
      end() {},
    }),
  });
  t.after(async () => {
    await workers.stop();
    rmSync(directory, { recursive: true });
  });
  assert.equal(await workers.start(), 'here');
  return { workers, restarts: () => restarts, pid: (): number => onlyWorker().process.pid ?? 0 };
}

function onlyWorker() {
  const [worker] = Object.values(cluster.workers ?? {});
  assert.ok(worker);
  return worker;
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    assert.ok(tries < 1_000, 'it does not come to that');
    await sleep(20);
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('however much was under way to a worker that has gone, the primary goes on and starts one other', async (t) => {
  const { workers, restarts, pid } = await startOne(t);
  const [gone, lost] = [pid(), new Error('write EPIPE')];
  const worker = onlyWorker();
  worker.process.emit('error', lost);
  worker.process.emit('error', lost);
  await until(() => !isAlive(gone));
  await until(() => workers.ready === 1);
  assert.notEqual(pid(), gone);
  assert.equal(restarts(), 1);
});

test('a machine without room for another process is asked again until it has', async (t) => {
  const { workers, restarts, pid } = await startOne(t);
  let refused = 0;
  const fork = t.mock.method(cluster, 'fork', () => {
    refused += 1;
    throw new Error('spawn ENOMEM');
  });
  process.kill(pid(), 'SIGKILL');
  await until(() => refused === 2);
  assert.equal(workers.ready, 0);
  fork.mock.restore();
  await until(() => workers.ready === 1);
  assert.equal(restarts(), 3);
});
