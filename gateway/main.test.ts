import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createKeySet } from '#core/keys';
import { assertCannotRun, assertRunsInOrder, runPartProcess } from '#core/testing/part-process';
import { WHERE_ROOT_IS_GIVEN_UP } from '#core/testing/without-root';
import { startHttp, temporaryDirectory } from './testing.ts';

function run(t: TestContext, options: readonly string[], root: string) {
  return runPartProcess(t, 'gateway', options, {
    OUTRIDER_RUNTIME_DIR: join(root, 'run'),
    OUTRIDER_STATE_DIR: join(root, 'state'),
  });
}

function prepared(t: TestContext): string {
  const root = temporaryDirectory(t);
  createKeySet(join(root, 'run/keys'));
  mkdirSync(join(root, 'state'));
  writeFileSync(join(root, 'state/token'), 'x'.repeat(40), { mode: 0o600 });
  return root;
}

test('the process starts from a file, answers, ends with 0 at SIGTERM and keeps stdout clean', {
  timeout: 120_000,
}, async (t) => {
  const root = prepared(t);
  const file = join(root, 'outrider.yaml');
  writeFileSync(file, 'gateway: {listen: "127.0.0.1:0"}\nserver: {listen: "127.0.0.1:1"}\n');
  await assertRunsInOrder(run(t, ['--config', file], root));
});

test('L5: what keeps it from starting is one clear line and exit code 1', async (t) => {
  const root = prepared(t);
  const busy = new URL(await startHttp(t, (_, response) => void response.end()));
  const empty = temporaryDirectory(t);
  createKeySet(join(empty, 'run/keys'));
  const cases: [string[], string, RegExp][] = [
    [
      ['--listen', busy.host],
      root,
      /^outrider gateway: 127\.0\.0\.1:\d+ is in use by another process$/m,
    ],
    [
      ['--lisen', 'x'],
      root,
      /^outrider gateway: unknown option --lisen \(did you mean "--listen"\?\)$/m,
    ],
    [['--config', '/does/not/exist'], root, /^outrider gateway: .*cannot be read \(ENOENT\)$/m],
    [
      ['--insecure', '--listen', '0.0.0.0:0'],
      root,
      /^outrider gateway: gateway\.insecure is possible on a loopback/m,
    ],
    [['--listen', '127.0.0.1:0'], empty, /^outrider gateway: nobody could be let in: /m],
    [
      ['--listen', '127.0.0.1:0'],
      temporaryDirectory(t),
      /^outrider gateway: nobody could be let in: /m,
    ],
  ];
  await Promise.all(
    cases.map(([options, directory, line]) => assertCannotRun(run(t, options, directory), line)),
  );
});

test('L5: a changed file and SIGHUP change the servers without a call lost; a broken or emptied file changes nothing', {
  timeout: 120_000,
}, async (t) => {
  const root = prepared(t);
  chmodSync(root, 0o755); // whoever the gateway is after it gave up root must be able to read the file
  const file = join(root, 'outrider.yaml');
  const named = (name: string) =>
    startHttp(t, (request, response) => {
      request.resume();
      response.end(name);
    });
  const [first, second] = [await named('first'), await named('second')];
  const write = (url: string) =>
    writeFileSync(file, `gateway: {listen: "127.0.0.1:0", servers: ["${url}/mcp"]}\n`);
  write(first);
  const { child, logged } = run(t, ['--config', file], root);
  const [, port = ''] = await logged(/"address":"127\.0\.0\.1:(\d+)"/);
  const call = async () => {
    const headers = { authorization: `Bearer ${'x'.repeat(40)}` };
    const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
    const response = await fetch(`http://127.0.0.1:${port}/mcp`, { method: 'POST', headers, body });
    assert.equal(response.status, 200);
    return response.text();
  };
  const untilAnsweredBy = async (name: string) => {
    while ((await call()) !== name);
  };
  await untilAnsweredBy('first');
  write(second);
  await untilAnsweredBy('second');
  writeFileSync(file, '');
  await logged(/is empty, and was not before/);
  assert.equal(await call(), 'second');
  const unknown = 'serversDraining: ["http://127.0.0.1:1/mcp"]';
  writeFileSync(file, `gateway: {servers: ["${first}/mcp"], ${unknown}}\n`);
  await logged(/the old one stays/);
  assert.equal(await call(), 'second');
  write(first);
  child.kill('SIGHUP');
  await untilAnsweredBy('first');
});

// Where only root can read this installation, the gateway stays root, and can read what root can.
test(
  'started as root, it refuses policies that it could not read again',
  WHERE_ROOT_IS_GIVEN_UP,
  async (t) => {
    const { root, options } = withSecretPolicies(t);
    await assertCannotRun(
      run(t, options, root),
      /^outrider gateway: gateway\.policies: .* cannot be read by uid \d+/m,
    );

    for (const directory of [root, join(root, 'policies')]) chmodSync(directory, 0o755);
    await run(t, options, root).logged(/"msg":"ready"/);
  },
);

test('as root, it serves policies that only root can read', {
  skip: process.getuid?.() !== 0,
}, async (t) => {
  const { root, options } = withSecretPolicies(t);
  await run(t, [...options, '--user', '0'], root).logged(/"msg":"ready"/);
});

function withSecretPolicies(t: TestContext): { root: string; options: string[] } {
  const root = prepared(t);
  const policies = join(root, 'policies');
  mkdirSync(policies, { mode: 0o700 });
  writeFileSync(join(policies, 'role.yaml'), ROLE);
  return { root, options: ['--listen', '127.0.0.1:0', '--policies', policies] };
}

const ROLE = `apiVersion: outrider/v1
kind: Role
metadata: {name: anybody, owner: test}
spec:
  members: [{issuer: "https://idp.example"}]
  sandbox: {timeout: 60s, memory: 128MiB, disk: 16MiB}
`;
