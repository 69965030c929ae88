import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Supervisor } from './supervisor.ts';

/** What is printed until a part is ready that looks so many seconds, one a look, and says each second what is missing. */
async function printed(t: TestContext, missing: readonly string[]): Promise<readonly string[]> {
  t.mock.timers.enable({ apis: ['Date'], now: 0 });
  const lines: string[] = [];
  const supervisor = new Supervisor({
    self: [process.execPath, '-e', 'setInterval(() => {}, 1_000)'],
    print: (part, line) => lines.push(`${part} ${line}`),
  });
  t.after(() => supervisor.stop());
  const left = [...missing];
  const ready = (): Promise<string | undefined> => {
    t.mock.timers.tick(1_000);
    return Promise.resolve(left.shift());
  };
  await supervisor.start([{ name: 'proxy', argv: [], env: process.env, ready }]);
  return lines;
}

test('what keeps a part from being ready is said when it takes long, and again when it is another', async (t) => {
  const missing = [...Array<string>(9).fill('audit: full'), ...Array<string>(5).fill('keys: none')];
  assert.deepEqual(await printed(t, missing), [
    'proxy is not ready yet: audit: full',
    'proxy is not ready yet: keys: none',
  ]);
});

test('control: of a start that takes as long as starts do nothing is said', async (t) => {
  assert.deepEqual(await printed(t, Array<string>(4).fill('it does not answer')), []);
});
