import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { givesUpRoot, MESH_UID } from '#core/mesh-user';
import { AgentLink } from '../agent-link.ts';
import type { Box } from '../backends/backend.ts';
import type { LauncherClient } from './client.ts';
import { FIRST_UID, launcherCommand, startLauncher } from './test-rig.ts';

const root = process.getuid?.() === 0;
const MIB = 2 ** 20;
const LIMITS = { memoryBytes: 128 * MIB, cpuMillis: 1000, pids: 40, diskBytes: 8 * MIB };

function ground(t: TestContext): string {
  const parent = mkdtempSync(join(tmpdir(), 'o-'));
  chmodSync(parent, 0o755); // the sandboxes' users come through here
  t.after(() => rmSync(parent, { recursive: true, force: true }));
  return join(parent, 'boxes');
}

async function launcherIn(
  t: TestContext,
  directory: string,
  options: readonly string[] = [],
): Promise<LauncherClient> {
  const launcher = await startLauncher(directory, options);
  t.after(() => launcher.stop());
  return launcher;
}

/** A box whose agent is connected. */
async function boxOf(
  launcher: LauncherClient,
  sandboxId: string,
): Promise<{ box: Box; link: AgentLink; directory: string; socketGid: number }> {
  const directory = await launcher.place(sandboxId);
  const { connection, server } = await listening(join(directory, 'control'));
  const box = await backendOf(launcher).start({ sandboxId, limits: LIMITS, image: '' });
  const link = new AgentLink(await connection, { profile: 'python', env: {} });
  const socketGid = statSync(join(directory, 'control')).gid;
  server.close();
  await link.ready();
  return { box, link, directory, socketGid };
}

async function listening(path: string): Promise<{ connection: Promise<Socket>; server: Server }> {
  const server = createServer();
  const connection = once(server, 'connection').then(([socket]: Socket[]) => {
    assert.ok(socket);
    return socket;
  });
  server.listen(path);
  await once(server, 'listening');
  chmodSync(path, 0o660);
  return { connection, server };
}

function backendOf(launcher: LauncherClient) {
  const [backend] = launcher.backends;
  assert.ok(backend);
  return backend;
}

/** Processes of the users that this file's launchers give to sandboxes. */
function processes(): string {
  const uids = Array.from({ length: 20 }, (_, index) => FIRST_UID + index).join(',');
  return root ? spawnSync('pgrep', ['-u', uids], { encoding: 'utf8' }).stdout : '';
}

function cgroups(sandboxId: string): string {
  return spawnSync('find', ['/sys/fs/cgroup', '-name', sandboxId], { encoding: 'utf8' }).stdout;
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'it did not come about');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test('a sandbox has a directory that its user may enter and nobody else, and nothing is left after it', async (t) => {
  const directory = ground(t);
  const launcher = await launcherIn(t, directory);
  const { box, directory: own, socketGid } = await boxOf(launcher, 'sbx-1');
  const { mode, uid, gid } = statSync(own);
  assert.equal(mode & 0o7777, 0o2750);
  assert.equal(uid, givesUpRoot('auto') ? MESH_UID : process.getuid?.());
  assert.equal(gid, root ? box.attestation.hostUid : process.getgid?.());
  assert.equal(socketGid, gid, 'a socket gets the group');
  assert.deepEqual(await box.counters(), { oomKills: 0, pidsRefused: 0 });
  await box.kill();
  await launcher.forget('sbx-1');
  assert.equal(existsSync(own), false);
  assert.equal(processes(), '');
  assert.equal(cgroups('sbx-1'), '');
  assert.deepEqual(await box.counters(), { oomKills: 0, pidsRefused: 0 }, 'as it was last');
});

test('a box in the making gives way to others, until it is said to be made', {
  skip: !root,
}, async (t) => {
  const launcher = await launcherIn(t, ground(t));
  const { box } = await boxOf(launcher, 'sbx-1');
  // Of whichever version this host has.
  const weight = () =>
    cgroups('sbx-1')
      .split('\n')
      .flatMap((group) => ['cpu.shares', 'cpu.weight'].map((name) => join(group, name)))
      .filter((path) => existsSync(path))
      .map((path) => Number(readFileSync(path, 'utf8')))[0];
  const making = weight() ?? 0;
  assert.ok(making === 102 || making === 10, String(making));
  box.settle();
  await until(() => weight() === (making === 102 ? 1_024 : 100));
  await box.kill();
  box.settle(); // of one that is gone
  await launcher.forget('sbx-1');
});

test('forgetting ends a box that still runs', async (t) => {
  const launcher = await launcherIn(t, ground(t));
  const { box } = await boxOf(launcher, 'sbx-1');
  await launcher.forget('sbx-1');
  await box.ended;
  assert.equal(processes(), '');
});

describe('the launcher refuses', () => {
  const start = (launcher: LauncherClient, over: object) =>
    backendOf(launcher).start({ sandboxId: 'sbx-1', limits: LIMITS, image: '', ...over });
  const cases: readonly (readonly [
    string,
    string,
    (launcher: LauncherClient) => Promise<unknown>,
  ])[] = [
    [
      'more memory than its ceiling',
      'BACKEND_UNAVAILABLE',
      (launcher) => start(launcher, { limits: { ...LIMITS, memoryBytes: 257 * MIB } }),
    ],
    [
      'more processes than its ceiling',
      'BACKEND_UNAVAILABLE',
      (launcher) => start(launcher, { limits: { ...LIMITS, pids: 101 } }),
    ],
    [
      'an image where there are none',
      'IMAGE_NOT_ALLOWED',
      (launcher) => start(launcher, { image: 'debian:12' }),
    ],
    [
      'a box without a place',
      'INVALID_REQUEST',
      (launcher) => start(launcher, { sandboxId: 'sbx-2' }),
    ],
    ['a second place', 'INVALID_REQUEST', (launcher) => launcher.place('sbx-1')],
    ['to forget what it does not know', 'INVALID_REQUEST', (launcher) => launcher.forget('sbx-2')],
  ];
  for (const [what, code, ask] of cases)
    test(`${what}, and goes on`, async (t) => {
      const launcher = await launcherIn(t, ground(t), [
        '--max-memory',
        '256MiB',
        '--max-pids',
        '100',
      ]);
      await launcher.place('sbx-1');
      await assert.rejects(ask(launcher), { code });
      await launcher.forget('sbx-1');
      const { box } = await boxOf(launcher, 'sbx-1'); // control: within the ceilings it is made
      await box.kill();
    });

  test('more sandboxes than it has users for, until one is given back', {
    skip: !root,
  }, async (t) => {
    const launcher = await launcherIn(t, ground(t), ['--uid-count', '1']);
    await launcher.place('sbx-1');
    await assert.rejects(launcher.place('sbx-2'), { code: 'QUOTA_EXCEEDED', retryAfterMs: 1_000 });
    await launcher.forget('sbx-1');
    await launcher.place('sbx-2');
  });

  test('a directory that another one uses', async (t) => {
    const directory = ground(t);
    await launcherIn(t, directory);
    await assert.rejects(startLauncher(directory), { code: 'ADDRESS_IN_USE' });
  });

  test('to go on with what is no runner of ours', async (t) => {
    const child = raw(t, ground(t));
    await heard(child);
    child.stdin?.write('{"id":1,"verb":"run","argv":["/bin/sh"]}\n');
    const [code] = await once(child, 'exit');
    assert.equal(code, 0);
  });
});

function raw(t: TestContext, directory: string): ChildProcess {
  const [program = '', ...words] = launcherCommand(directory);
  const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => void child.kill('SIGKILL'));
  return child;
}

async function heard(child: ChildProcess): Promise<void> {
  assert.ok(child.stdout);
  await once(child.stdout, 'data');
}

test('when its runner is gone, everything that it made is ended and removed', async (t) => {
  const directory = ground(t);
  const launcher = await launcherIn(t, directory);
  await boxOf(launcher, 'sbx-1');
  await boxOf(launcher, 'sbx-2');
  if (root) assert.notEqual(processes(), '', 'control: they can be seen');
  await launcher.stop();
  await launcher.over;
  assert.equal(existsSync(directory), false);
  assert.equal(processes(), '');
  assert.equal(cgroups('sbx-1'), '');
});

test('a signal ends it in order, too', async (t) => {
  const directory = ground(t);
  const child = raw(t, directory);
  await heard(child);
  assert.ok(readdirSync(directory).includes('owner.sock'));
  child.kill('SIGTERM');
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
  assert.equal(existsSync(directory), false);
});

test('killed, it takes its boxes with it, the runner is told, and the next one sweeps', async (t) => {
  const directory = ground(t);
  const launcher = await startLauncher(directory);
  const { box } = await boxOf(launcher, 'sbx-1');
  const pid = Number(
    spawnSync('pgrep', ['-f', `launcher .*${directory}`], { encoding: 'utf8' }).stdout.trim(),
  );
  process.kill(pid, 'SIGKILL');
  await assert.rejects(launcher.over, { code: 'SANDBOX_FAILED' });
  await box.ended;
  await assert.rejects(launcher.place('sbx-2'), { code: 'SANDBOX_FAILED' });
  await until(() => processes() === '');
  assert.ok(existsSync(join(directory, 'sbx-1')), 'control: it could not clean up');
  await launcherIn(t, directory);
  assert.equal(existsSync(join(directory, 'sbx-1')), false);
  assert.equal(cgroups('sbx-1'), '');
});

test('a backend that cannot be used says what to do, and the others are not hindered', async (t) => {
  const launcher = await launcherIn(t, ground(t), [
    '--backends=bubblewrap,docker',
    '--docker-socket=/nowhere/docker.sock',
  ]);
  const [bubblewrap, docker] = launcher.backends;
  assert.equal(await bubblewrap?.probe(), undefined);
  assert.match((await docker?.probe()) ?? '', /start dockerd/);
  await launcher.place('sbx-1');
  assert.ok(docker);
  await assert.rejects(docker.start({ sandboxId: 'sbx-1', limits: LIMITS, image: '' }), {
    code: 'BACKEND_UNAVAILABLE',
  });
});

test('bubblewrap that is not installed says how to install it', async (t) => {
  const launcher = await launcherIn(t, ground(t), ['--bubblewrap', '/nowhere/bwrap']);
  assert.match((await backendOf(launcher).probe()) ?? '', /apt-get install bubblewrap/);
});
