import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { ExecSpec, KilledBy, SandboxSpec } from '#proto';
import { startLauncher } from './launcher/test-rig.ts';
import { call, codeOf, openExec, python, type Rig, startRig } from './test-rig.ts';
import { endOf, FOREVER, startOf } from './testing.ts';

const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: plain, owner: test}
spec:
  members: [{issuer: "https://idp.test"}]
  sandbox: {memory: 128MiB, timeout: 30s}
---
apiVersion: outrider/v1
kind: Role
metadata: {name: strong, owner: test}
spec:
  members: [{issuer: "https://idp.test"}]
  sandbox: {memory: 128MiB, timeout: 30s, minimumTier: container}
`;
const NO_ENGINE = ['--backends', 'bubblewrap,docker', '--docker-socket', '/nowhere/docker.sock'];

async function rigOf(t: TestContext, options: readonly string[] = []): Promise<Rig> {
  const rig = await startRig(POLICIES, options);
  t.after(() => rig.stop());
  return rig;
}

test('C8: a backend that cannot be used is said to be so, refused by name and by tier, and never replaced', async (t) => {
  const rig = await rigOf(t, NO_ENGINE);
  const alice = await rig.as('alice');
  const run = (role: string, fresh: Partial<SandboxSpec> = {}) =>
    call(
      rig.execs,
      'run',
      {
        spec: ExecSpec.fromPartial({
          ...python('print(1)'),
          role,
          target: { $case: 'fresh', value: SandboxSpec.fromPartial(fresh) },
        }),
      },
      alice,
    );

  const { status, unusableBackends } = await rig.readyz();
  assert.equal(status, 'ready', 'the default backend is usable');
  assert.match(JSON.stringify(unusableBackends), /^\{"docker":".*start dockerd"\}$/);
  const { backends } = await call(rig.boxes, 'getCapabilities', {}, alice);
  assert.deepEqual(
    backends.map(({ name, usable, reason }) => [name, usable, /start dockerd/.test(reason)]),
    [
      ['bubblewrap', true, false],
      ['docker', false, true],
    ],
  );

  assert.equal(await codeOf(run('plain', { backend: 'docker' })), 'BACKEND_UNAVAILABLE');
  assert.equal(await codeOf(run('strong')), 'BACKEND_UNAVAILABLE');
  assert.equal(await codeOf(run('strong', { backend: 'bubblewrap' })), 'BACKEND_TOO_WEAK');
  assert.equal(await codeOf(run('plain', { backend: 'gvisor' })), 'BACKEND_UNAVAILABLE');
  assert.equal(await codeOf(run('plain', { image: 'debian:12' })), 'IMAGE_NOT_ALLOWED');
  const { started, stdout } = await run('plain'); // control
  assert.deepEqual([started?.attestation?.backend, stdout.toString()], ['bubblewrap', '1\n']);
});

test('a runner whose default backend cannot be used does not start, and says what to do', async () => {
  const options = ['--backends', 'docker,bubblewrap', '--docker-socket', '/nowhere/docker.sock'];
  await assert.rejects(startRig(POLICIES, options), /docker cannot isolate here: .*start dockerd/);
});

test('D13: the runner itself holds no box: its launcher does, and where that ends the runner ends, and says how programs did', async (t) => {
  const rig = await rigOf(t);
  const alice = await rig.as('alice', { role: 'plain' });
  const stream = openExec(rig.execs, alice, python(FOREVER));
  const started = await startOf(stream);
  const childrenOf = (pid: number | undefined) =>
    spawnSync('ps', ['-o', 'pid=,args=', '--ppid', String(pid)], { encoding: 'utf8' }).stdout;
  const children = childrenOf(rig.runner?.pid);
  assert.doesNotMatch(children, /bwrap/);
  const launcher = Number(/^\s*(\d+) .* launcher /m.exec(children)?.[1]);
  assert.match(childrenOf(launcher), /bwrap/);

  const exit = new Promise<number | null>((resolve) => rig.runner?.once('exit', resolve));
  process.kill(launcher, 'SIGKILL');
  assert.equal(endOf(await stream.rest())?.killedBy, KilledBy.RUNNER);
  assert.equal(await exit, 1);
  await gone(() => spawnSync('pgrep', ['-u', String(started.attestation?.hostUid)]).status === 1);
  assert.match(rig.log, /the launcher ended/);
  // What it could not remove any more the next one does, as when a supervisor starts the runner again.
  const next = await startLauncher(rig.sandboxes);
  await next.stop();
  const left = spawnSync('find', ['/sys/fs/cgroup', '-name', started.sandboxId]);
  assert.equal(left.stdout.toString(), '');
  assert.equal(existsSync(rig.sandboxes), false);
});

test('a runner that is killed leaves no process and no directory', async (t) => {
  const rig = await rigOf(t);
  const stream = openExec(rig.execs, await rig.as('alice', { role: 'plain' }), python(FOREVER));
  const started = await startOf(stream);
  assert.ok(readdirSync(rig.sandboxes).includes(started.sandboxId), 'control');
  rig.runner?.kill('SIGKILL');
  await gone(() => rig.isGone(started.sandboxId, started.attestation?.hostUid ?? 0));
});

async function gone(isGone: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!isGone()) {
    assert.ok(Date.now() < deadline, 'something is left');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
