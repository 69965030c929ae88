import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { formatAddress, parseAddress } from '#core/address';
import { listen } from '#core/http';
import { createKeySet } from '#core/keys';
import { temporaryDirectory } from '#core/testing/directory';
import { assertCannotRun, assertRunsInOrder, runPartProcess } from '#core/testing/part-process';

function run(t: TestContext, options: readonly string[], root: string) {
  const places = { OUTRIDER_RUNTIME_DIR: root, OUTRIDER_STATE_DIR: root };
  return runPartProcess(t, 'server', options, places);
}

for (const signal of ['SIGTERM', 'SIGHUP'] as const)
  test(`the process starts, answers, ends with 0 at ${signal} and keeps stdout clean`, {
    timeout: 120_000,
  }, async (t) => {
    const root = temporaryDirectory(t);
    createKeySet(join(root, 'keys'));
    await assertRunsInOrder(run(t, ['--listen', '127.0.0.1:0'], root), signal);
  });

test('what keeps it from starting is one clear line and exit code 1', {
  timeout: 120_000,
}, async (t) => {
  const root = temporaryDirectory(t);
  createKeySet(join(root, 'keys'));
  const busy = createServer();
  const address = formatAddress(await listen(busy, parseAddress('127.0.0.1:0')));
  t.after(() => busy.close());
  const cases: [string[], string, RegExp][] = [
    [
      ['--listen', address],
      root,
      /^outrider server: 127\.0\.0\.1:\d+ is in use by another process$/m,
    ],
    [
      ['--runer', 'x'],
      root,
      /^outrider server: unknown option --runer \(did you mean "--runner"\?\)$/m,
    ],
    [['--listen', '127.0.0.1:0'], temporaryDirectory(t), /assertion-issuers\.json cannot be read/],
  ];
  await Promise.all(
    cases.map(([options, directory, line]) => assertCannotRun(run(t, options, directory), line)),
  );
});
