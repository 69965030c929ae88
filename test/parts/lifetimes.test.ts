import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { containersNaming } from '../support/containers.ts';
import { cgroupsOf, residueOf, strangersIn } from '../support/residue.ts';
import { failureOf, killedBy } from '../support/runner-client.ts';
import { type RunnerMesh, startRunnerMesh } from '../support/runner-mesh.ts';

// A supervisor starts what was killed again at once: the first try must do, and nothing of the life before may be left.

const FOREVER = 'import time\nwhile True: time.sleep(60)';
const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 60s, memory: 128MiB, disk: 16MiB, concurrent: 8}
`;

async function meshOn(t: TestContext, backend: string): Promise<RunnerMesh> {
  const mesh = await startRunnerMesh({
    policies: POLICIES,
    argv: ['--backends', backend, '--pool-size', '1'],
  });
  t.after(() => mesh.stop());
  return mesh;
}

/** A program that runs: its id, and how it ends for its caller. */
async function running(mesh: RunnerMesh, backend: string) {
  const { responses } = mesh.client.exec({ code: FOREVER, backend });
  const first = await responses.next();
  assert.ok(first.value?.$case === 'started');
  const { execId } = first.value.value;
  const ended = (async (): Promise<string> => {
    try {
      for await (const response of responses)
        if (response.$case === 'end') return killedBy(response.value);
      return 'no end';
    } catch (error) {
      return failureOf(error);
    }
  })();
  return { execId, ended };
}

async function errorCodeOf(mesh: RunnerMesh, execId: string): Promise<string | undefined> {
  return (await mesh.client.getExec(execId)).end?.errorCode;
}

for (const backend of ['bubblewrap', 'docker', 'gvisor'])
  describe(`D5 with ${backend}`, () => {
    test('kill -9 of the runner: the next one waits for the old launcher, starts at the first try, and says what was lost', async (t) => {
      const mesh = await meshOn(t, backend);
      const programs = await Promise.all(Array.from({ length: 4 }, () => running(mesh, backend)));
      const launcher = mesh.launcher();
      await mesh.end('runner', 'SIGKILL');
      await mesh.startPart('runner');
      assert.notEqual(mesh.launcher(), launcher);
      for (const { execId, ended } of programs) {
        assert.equal(await ended, 'GRPC_14');
        assert.equal(await errorCodeOf(mesh, execId), 'EXEC_LOST');
      }
      assert.deepEqual(await strangersIn(mesh), {});
      assert.equal(killedBy((await mesh.client.run({ code: 'print(1)', backend })).end), 'exit');
    });

    test('kill -9 of the launcher: programs end as the runner’s loss, it stops with the reason, and the next one clears up', async (t) => {
      const mesh = await meshOn(t, backend);
      const { ended } = await running(mesh, backend);
      process.kill(mesh.launcher() ?? assert.fail(), 'SIGKILL');
      assert.match(await ended, /^(runner|GRPC_14)$/); // the runner may be gone before it was told
      await mesh.exited('runner');
      assert.equal(await mesh.end('runner', 'SIGTERM'), 1);
      assert.match(mesh.log, /outrider runner: the launcher ended: its sandboxes ended with it/);

      const { container, other } = leftByHand(t, mesh, backend);
      const control = residueOf(mesh);
      assert.ok(control.files.some((path) => basename(path) === 'sbx-old'));
      if (container !== '') assert.ok(control.containers.includes(container));
      await mesh.startPart('runner');
      assert.deepEqual(await strangersIn(mesh), {});
      if (other !== '') assert.equal(containersNaming(other).length, 1, 'it is not ours to remove');
      assert.equal(killedBy((await mesh.client.run({ code: 'print(1)', backend })).end), 'exit');
    });
  });

/**
 * What a launcher cannot take along when it is killed: a directory, control groups, and where there is an engine a container that it
 * had made and not yet started; and beside it one of somebody else's.
 */
function leftByHand(
  t: TestContext,
  mesh: RunnerMesh,
  backend: string,
): { container: string; other: string } {
  mkdirSync(join(mesh.sandboxes, 'sbx-old'));
  if (backend === 'bubblewrap') {
    const groups = cgroupsOf(mesh.sandboxes).filter((path) => !basename(path).startsWith('sbx-'));
    for (const group of groups) mkdirSync(join(group, 'sbx-old'));
    return { container: '', other: '' };
  }
  const owner = createHash('sha256').update(mesh.sandboxes).digest('hex').slice(0, 24);
  const made = (...labels: string[]): string => {
    const options = labels.flatMap((label) => ['--label', label]);
    const id = spawnSync('docker', ['create', ...options, 'outrider-sandbox', 'true'], {
      encoding: 'utf8',
    }).stdout.trim();
    t.after(() => void spawnSync('docker', ['rm', '--force', id]));
    return id;
  };
  return {
    container: made(`outrider.owner=${owner}`, `left.of=${mesh.directory}`),
    other: made(`outrider.owner=${owner}-other`),
  };
}
