import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { formatAddress, parseAddress } from '#core/address';
import { listen } from '#core/http';
import { createKeySet } from '#core/keys';
import { packageRoot } from '#core/package-root';

const SCRIPT =
  "import { main } from './server/main.ts'; process.exitCode = await main(process.argv.slice(1), process.env);";

function temporaryDirectory(t: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'outrider-srv-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  return root;
}

function run(t: TestContext, options: readonly string[], root: string) {
  const child = spawn(
    process.execPath,
    ['--conditions=outrider-source', '--input-type=module', '-e', SCRIPT, '--', ...options],
    { cwd: packageRoot, env: { OUTRIDER_RUNTIME_DIR: root, OUTRIDER_STATE_DIR: root } },
  );
  t.after(() => child.kill('SIGKILL'));
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (output.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output.stderr += chunk.toString()));
  return { child, output };
}

test('the process starts, answers, ends with 0 at SIGTERM and keeps stdout clean', {
  timeout: 20_000,
}, async (t) => {
  const root = temporaryDirectory(t);
  createKeySet(join(root, 'keys'));
  const { child, output } = run(t, ['--listen', '127.0.0.1:0'], root);
  let port: string | undefined;
  while (port === undefined) {
    await once(child.stderr, 'data');
    port = /"address":"127\.0\.0\.1:(\d+)"/.exec(output.stderr)?.[1];
  }
  assert.equal((await fetch(`http://127.0.0.1:${port}/livez`)).status, 200);
  child.kill('SIGTERM');
  const [code] = await once(child, 'close');
  assert.equal(code, 0);
  assert.equal(output.stdout, '');
});

test('what keeps it from starting is one clear line and exit code 1', {
  timeout: 20_000,
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
    cases.map(async ([options, directory, line]) => {
      const { child, output } = run(t, options, directory);
      const [code] = await once(child, 'close');
      assert.equal(code, 1, options.join(' '));
      assert.match(output.stderr, line);
      assert.equal(output.stdout, '');
    }),
  );
});
