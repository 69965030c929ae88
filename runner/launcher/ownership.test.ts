import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Lifecycle } from '#core/lifecycle';
import { createLogger } from '#core/log';
import { ownDirectory } from './ownership.ts';

function ground(t: TestContext): string {
  const parent = mkdtempSync(join(tmpdir(), 'o-'));
  chmodSync(parent, 0o755);
  t.after(() => rmSync(parent, { recursive: true, force: true }));
  return join(parent, 'boxes');
}

function lifecycleOf(t: TestContext): Lifecycle {
  const lifecycle = new Lifecycle(createLogger('test', 'error'));
  t.after(() => lifecycle.stop());
  return lifecycle;
}

/** Counts how often it was looked at: whoever connects is told what it says. */
class Asked extends Lifecycle {
  asked = 0;

  override get stopping(): boolean {
    this.asked++;
    return super.stopping;
  }
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!holds()) {
    assert.ok(Date.now() < deadline, 'it did not come about');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Takes the directory; what is done with it lasts until `release` is called. */
async function owner(t: TestContext, directory: string) {
  const lifecycle = new Asked(createLogger('test', 'error'));
  t.after(() => lifecycle.stop());
  await ownDirectory(directory, lifecycle);
  let release = (): void => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  lifecycle.add('clearing up', () => released);
  return { lifecycle, release: () => release() };
}

const refused = { code: 'ADDRESS_IN_USE' };

test('a directory is its first owner’s: a second is refused at once, and the first keeps it', async (t) => {
  const directory = ground(t);
  const first = await owner(t, directory);
  const from = performance.now();
  await assert.rejects(ownDirectory(directory, lifecycleOf(t)), refused);
  assert.ok(performance.now() - from < 10_000); // one that clears up is waited for 15 s
  await assert.rejects(ownDirectory(directory, lifecycleOf(t)), refused);
  first.release();
});

test('an owner that is clearing up is waited for, and what it gives up last is the directory', async (t) => {
  const directory = ground(t);
  const first = await owner(t, directory);
  const stopped = first.lifecycle.stop();
  const second = lifecycleOf(t);
  const taking = ownDirectory(directory, second);
  await until(() => first.lifecycle.asked >= 3); // it was told so, and goes on asking
  first.release();
  await Promise.all([stopped, taking]);
  assert.deepEqual(
    readdirSync(directory),
    ['owner.sock'],
    'the second’s, not removed by the first',
  );
  await assert.rejects(ownDirectory(directory, lifecycleOf(t)), refused);
  await second.stop();
  assert.equal(existsSync(directory), false);
});

test('one that died leaves a socket that nobody answers: it is taken over at once', async (t) => {
  const directory = ground(t);
  const child = ownerProcess(t, directory);
  await heard(child);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.deepEqual(readdirSync(directory), ['owner.sock'], 'control: it could not clear up');
  const from = performance.now();
  await ownDirectory(directory, lifecycleOf(t));
  assert.ok(performance.now() - from < 10_000); // one that clears up is waited for 15 s
});

test('one whose runner was killed says so, before it has noticed anything else', async (t) => {
  const directory = ground(t);
  const runner = spawn(process.execPath, ['-e', RUNNER, process.execPath, ...program(directory)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => void runner.kill('SIGKILL'));
  const pid = Number(await heard(runner));
  t.after(() => tryKill(pid));
  await assert.rejects(ownDirectory(directory, lifecycleOf(t)), refused); // control: its runner lives
  runner.kill('SIGKILL');
  await once(runner, 'exit');
  const taking = ownDirectory(directory, lifecycleOf(t));
  assert.equal(await Promise.race([taking.then(() => 'taken'), soon()]), 'waits');
  tryKill(pid);
  await taking;
});

test('a stranger who listens there and says nothing is waited for no longer than 15 s', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() });
  const directory = ground(t);
  mkdirSync(directory, { mode: 0o711 });
  const silent = createServer((socket) => {
    t.mock.timers.tick(16_000);
    socket.destroy();
  });
  silent.listen(join(directory, 'owner.sock'));
  await once(silent, 'listening');
  t.after(() => silent.close());
  await assert.rejects(ownDirectory(directory, lifecycleOf(t)), refused);
});

/** A process that owns the directory, writes its pid, and does nothing at all when its runner is gone. */
function program(directory: string): string[] {
  const code = `
import { Lifecycle } from '#core/lifecycle';
import { createLogger } from '#core/log';
import { ownDirectory } from ${JSON.stringify(join(import.meta.dirname, 'ownership.ts'))};
await ownDirectory(${JSON.stringify(directory)}, new Lifecycle(createLogger('owner', 'error')));
process.stdout.write(String(process.pid));
`;
  return ['--conditions=outrider-source', '--input-type=module', '-e', code];
}

/** Starts its arguments as a child and lives on. */
const RUNNER = `
require('node:child_process').spawn(process.argv[1], process.argv.slice(2), { stdio: 'inherit', detached: true });
setInterval(() => {}, 1000);
`;

function ownerProcess(t: TestContext, directory: string): ChildProcess {
  const child = spawn(process.execPath, program(directory), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => void child.kill('SIGKILL'));
  return child;
}

async function heard(child: ChildProcess): Promise<string> {
  assert.ok(child.stdout);
  const [text] = await once(child.stdout, 'data');
  return String(text);
}

function soon(): Promise<string> {
  return new Promise((resolve) => setTimeout(() => resolve('waits'), 300));
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {}
}
