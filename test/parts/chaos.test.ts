import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { campaign } from '../chaos/campaign.ts';
import { planOf } from '../chaos/plan.ts';
import { cgroupsOf, residueOf, strangersIn } from '../support/residue.ts';
import { type ExecStream, killedBy } from '../support/runner-client.ts';
import { startRunnerMesh } from '../support/runner-mesh.ts';

/** A share of `npm run chaos -- runner`, which goes on for 10 000 kills. */
const SHARE = [
  ['bubblewrap', 'host', 400],
  ['bubblewrap', 'none', 60],
  ['docker', 'host', 30],
  ['gvisor', 'host', 30],
] as const;
const SEED = 20_261_121;
const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 60s, memory: 128MiB, disk: 16MiB}
`;

describe('random kills at random moments', () => {
  for (const [backend, sharing, count] of SHARE)
    test(`${backend}, sidecar shared by ${sharing}: ${count} of them leave nothing, and nothing hangs`, async (t) => {
      const { ends, problems, seconds } = await campaign({ seed: SEED, count, backend, sharing });
      t.diagnostic(`${(count / seconds).toFixed(1)}/s: ${JSON.stringify(ends)}`);
      assert.deepEqual(problems, []);
    });

  test('every share has every kind of kill', () => {
    const all = new Set(planOf(SEED, 10_000).map(({ kind }) => kind));
    assert.equal(all.size, 9);
    for (const [, sharing, count] of SHARE)
      assert.deepEqual(new Set(planOf(SEED, count, sharing).map(({ kind }) => kind)), all);
  });

  test('control: all that there is of a running mesh is seen', async (t) => {
    const mesh = await startRunnerMesh({
      policies: POLICIES,
      argv: ['--backends', 'bubblewrap,docker', '--pool-size', '1'],
    });
    const mounted = join(mesh.temporary, 'mounted');
    let program: ExecStream | undefined;
    t.after(async () => {
      spawnSync('umount', [mounted]);
      program?.call.cancel();
      await mesh.stop();
    });
    mkdirSync(mounted);
    assert.equal(spawnSync('mount', ['-t', 'tmpfs', 'none', mounted]).status, 0);
    program = mesh.client.exec({ code: 'input()', openStdin: true, backend: 'docker' });
    await program.responses.next();
    const empty = Object.entries(residueOf(mesh)).filter(([, things]) => things.length === 0);
    assert.deepEqual(empty, []);
  });

  test('control: what belongs to no sandbox that a living runner knows of is seen, and a runner at rest has nothing of it', async (t) => {
    const mesh = await startRunnerMesh({
      policies: POLICIES,
      argv: ['--backends', 'bubblewrap,docker', '--pool-size', '1'],
    });
    const mounted = join(mesh.temporary, 'mounted');
    const group = cgroupsOf(mesh.sandboxes).map((path) => join(path, 'sbx-stray'))[0] ?? '';
    const user = { uid: mesh.firstUid + 399, gid: mesh.firstUid + 399 };
    let planted: (() => void)[] = [];
    const clean = () => {
      for (const undo of planted) undo();
      planted = [];
    };
    t.after(async () => {
      clean();
      await mesh.stop();
    });
    const { end } = await mesh.client.run({ code: 'print(1)' });
    assert.equal(killedBy(end), 'exit');
    assert.deepEqual(await strangersIn(mesh), {});

    mkdirSync(mounted);
    assert.equal(spawnSync('mount', ['-t', 'tmpfs', 'none', mounted]).status, 0);
    planted.push(
      () => spawnSync('umount', [mounted]),
      () => rmSync(mounted, { recursive: true }),
    );
    const stray = spawn('/usr/bin/sleep', ['1000'], { ...user, stdio: 'ignore' });
    planted.push(() => stray.kill('SIGKILL'));
    mkdirSync(group);
    planted.push(() => rmdirSync(group));
    for (const name of ['sbx-one', 'sbx-two', 'sbx-three']) {
      mkdirSync(join(mesh.sandboxes, name));
      planted.push(() => rmSync(join(mesh.sandboxes, name), { recursive: true }));
    }
    const server = createServer().listen(join(mesh.sandboxes, 'att-stray.sock'));
    await once(server, 'listening');
    planted.push(() => server.close());
    const label = `stray=${mesh.directory}`;
    const made = ['create', '--label', label, 'outrider-sandbox', 'true'];
    const container = spawnSync('docker', made, { encoding: 'utf8' }).stdout.trim();
    assert.match(container, /^[0-9a-f]{64}$/);
    planted.push(() => spawnSync('docker', ['rm', '--force', container]));

    const found = await strangersIn(mesh, 0);
    assert.deepEqual(Object.keys(found).toSorted(), [
      'cgroups',
      'containers',
      'files',
      'mounts',
      'processes',
      'sockets',
    ]);
    clean();
    assert.deepEqual(await strangersIn(mesh), {});
  });

  test('the same seed makes the same kills, another makes others', () => {
    assert.deepEqual(planOf(7, 50), planOf(7, 100).slice(0, 50));
    assert.notDeepEqual(planOf(7, 50), planOf(8, 50));
  });
});
