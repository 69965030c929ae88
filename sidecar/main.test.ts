import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { credentials } from '@grpc/grpc-js';
import { accepts } from '#core/http';
import { SidecarServiceClient } from '#proto';
import { Runner } from './test-rig.ts';

const RUN = `import('./sidecar/main.ts').then(async ({ main }) => {
  process.exit(await main(process.argv.slice(1), process.env));
});`;

/** A sidecar process, in a runtime directory of its own. */
function start(t: TestContext, ...options: string[]) {
  const directory = mkdtempSync(join(tmpdir(), 'sidecar-'));
  const child = spawn(
    process.execPath,
    ['--conditions=outrider-source', '-e', RUN, '--', ...options],
    {
      cwd: join(import.meta.dirname, '..'),
      env: { PATH: process.env['PATH'], OUTRIDER_RUNTIME_DIR: directory },
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (output.stdout += String(chunk)));
  child.stderr.on('data', (chunk) => (output.stderr += String(chunk)));
  t.after(() => {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });
  return { child, directory, output, socket: join(directory, 'sidecar.sock') };
}

function exitOf(child: ChildProcess): Promise<number | null> {
  return child.exitCode === null
    ? new Promise((resolve) => child.once('exit', resolve))
    : Promise.resolve(child.exitCode);
}

/** The file is there a moment before anybody listens on it. */
async function untilListening(path: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await accepts({ kind: 'unix', path }))) {
    assert.ok(Date.now() < deadline, `${path} takes no connections`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test('the process of one sandbox ends with its attachment, cleanly and silently', async (t) => {
  const { child, directory, output, socket } = start(t, '--exit-with-attachment');
  await untilListening(socket);
  const client = new SidecarServiceClient(`unix:${socket}`, credentials.createInsecure());
  t.after(() => client.close());
  const runner = new Runner(client, join(directory, 'door.sock'));
  const unix = { path: runner.door, controlPath: '' };
  await runner.ask({
    $case: 'open',
    value: {
      attachmentId: 'a',
      sandboxId: 's',
      spoolPath: '',
      listen: { $case: 'unix', value: unix },
    },
  });
  assert.ok(existsSync(runner.door));
  runner.call.end();
  assert.equal(await exitOf(child), 0);
  assert.ok(!existsSync(runner.door) && !existsSync(socket));
  assert.deepEqual(output, { stdout: '', stderr: '' });
});

test('a sidecar that watches its stdin ends with its parent', async (t) => {
  const { child, socket } = start(t, '--exit-with-attachment', '--watch-stdin');
  await untilListening(socket);
  child.stdin.end();
  assert.equal(await exitOf(child), 0);
  assert.ok(!existsSync(socket));
});

const UNUSABLE = [
  [['--listen', '127.0.0.1:0'], /must be a unix socket/],
  [['--prozy', 'unix:/x'], /unknown option --prozy \(did you mean "--proxy"\?\)/],
  [['--spool-records', '1'], /sidecar\.spoolRecords/],
] as const;

for (const [options, message] of UNUSABLE)
  test(`${options.join(' ')} is an error that names it, and exit 1`, async (t) => {
    const { child, output } = start(t, ...options);
    assert.equal(await exitOf(child), 1);
    assert.match(output.stderr, message);
    assert.equal(output.stdout, '');
  });

test('a second sidecar on the same socket is refused, and the first stays where it is', async (t) => {
  const first = start(t, '--admin', '127.0.0.1:0');
  await untilListening(first.socket);
  const second = start(t, '--admin', '127.0.0.1:0', '--listen', `unix:${first.socket}`);
  assert.equal(await exitOf(second.child), 1);
  assert.match(second.output.stderr, /sidecar\.sock is in use by another process/);
  assert.ok(existsSync(first.socket));
  assert.equal(first.child.exitCode, null);
});

test('a sidecar takes over the socket that a killed one left behind', async (t) => {
  const first = start(t, '--admin', '127.0.0.1:0');
  await untilListening(first.socket);
  first.child.kill('SIGKILL');
  await new Promise((resolve) => first.child.once('exit', resolve));
  assert.ok(existsSync(first.socket));
  const { child } = start(t, '--admin', '127.0.0.1:0', '--listen', `unix:${first.socket}`);
  const client = new SidecarServiceClient(`unix:${first.socket}`, credentials.createInsecure());
  t.after(() => client.close());
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + 60_000, (error) => (error ? reject(error) : resolve()));
  });
  assert.equal(child.exitCode, null);
});

test("what a sidecar loads is not Node's own HTTP client, which is heavy, nor the protos of other parts", () => {
  const code = `
    const { registerHooks } = await import('node:module');
    const files = [];
    registerHooks({ load: (url, context, next) => (files.push(url), next(url, context)) });
    await import('./main.ts');
    process.stdout.write(JSON.stringify([...files, ...process.moduleLoadList]));
  `;
  const argv = ['--conditions=outrider-source', '--input-type=module', '-e', code];
  const said = execFileSync(process.execPath, argv, { cwd: import.meta.dirname, encoding: 'utf8' });
  const has = (part: string): boolean => said.includes(part);
  assert.deepEqual(['gen/outrider/sidecar/', 'gen/outrider/runner/', '/undici/'].filter(has), [
    'gen/outrider/sidecar/',
  ]);
});
