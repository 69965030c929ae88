import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { Lifecycle } from './lifecycle.ts';
import { type Logger, silentLogger } from './log.ts';

/** A logger that keeps what was warned of. */
function keeping(): { log: Logger; warned: unknown[] } {
  const warned: unknown[] = [];
  return {
    warned,
    log: { ...silentLogger, warn: (_, fields) => void warned.push(fields?.detail?.['step']) },
  };
}

test('steps run in reverse order, each after the one before has ended, and once', async () => {
  const lifecycle = new Lifecycle(silentLogger);
  const done: string[] = [];
  for (const name of ['a', 'b', 'c'])
    lifecycle.add(name, async () => {
      await new Promise((resolve) => setTimeout(resolve, name === 'c' ? 5 : 0));
      done.push(name);
    });
  assert.equal(lifecycle.stopping, false);
  const first = lifecycle.stop();
  assert.equal(lifecycle.stopping, true);
  await Promise.all([first, lifecycle.stop()]);
  assert.deepEqual(done, ['c', 'b', 'a']);
});

test('a step that fails, or never ends, is reported and keeps none of the others from running', async () => {
  const { log, warned } = keeping();
  const lifecycle = new Lifecycle(log, 10);
  const done: string[] = [];
  lifecycle.add('first', () => void done.push('first'));
  lifecycle.add('throws', () => {
    throw new Error('no');
  });
  lifecycle.add('rejects', async () => Promise.reject(new Error('no')));
  lifecycle.add('hangs', () => new Promise(() => {}));
  lifecycle.add('last', () => void done.push('last'));
  await lifecycle.stop();
  assert.deepEqual(done, ['last', 'first']);
  assert.deepEqual(warned, ['hangs', 'rejects', 'throws']);
});

test('what is added while the end is under way is ended too', async () => {
  const lifecycle = new Lifecycle(silentLogger);
  let ended = false;
  lifecycle.add('outer', () => {
    lifecycle.add('inner', () => {
      ended = true;
    });
  });
  await lifecycle.stop();
  assert.equal(ended, true);
});

/** A process that waits for a signal, takes `stopMs` to stop, and says what it does. */
async function waiting(t: TestContext, stopMs: number) {
  const code = `
    const { untilSignal } = await import(${JSON.stringify(new URL('lifecycle.ts', import.meta.url).href)});
    const stop = () => { console.log('stopping'); return new Promise((r) => setTimeout(r, ${stopMs})); };
    const alive = setInterval(() => {}, 1000);
    const over = untilSignal(stop);
    console.log('up');
    await over;
    clearInterval(alive);
    console.log('stopped');
    process.exitCode = 7;`;
  const child = spawn(process.execPath, [...process.execArgv, '--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk;
  });
  const until = async (word: string) => {
    while (!said.includes(word)) await once(child.stdout, 'data');
  };
  await until('up');
  return { child, until, said: () => said, exit: once(child, 'exit') };
}

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  test(`${signal} stops, and the process goes on after it`, async (t) => {
    const { child, exit, said } = await waiting(t, 1);
    child.kill(signal);
    assert.deepEqual(await exit, [7, null]);
    assert.equal(said(), 'up\nstopping\nstopped\n');
  });

test('the same signal twice at once is one; a later one ends the process', async (t) => {
  const { child, exit, until } = await waiting(t, 20_000);
  child.kill('SIGINT');
  child.kill('SIGTERM');
  await until('stopping');
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  assert.equal(child.exitCode, null);
  child.kill('SIGINT');
  assert.deepEqual(await exit, [130, null]);
});
