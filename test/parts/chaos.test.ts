import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { campaign } from '../chaos/campaign.ts';
import { planOf } from '../chaos/plan.ts';
import { residueOf } from '../support/residue.ts';
import type { ExecStream } from '../support/runner-client.ts';
import { startRunnerMesh } from '../support/runner-mesh.ts';

/** A share of `npm run chaos -- runner`, which goes on for 10 000 kills. */
const SHARE = [
  ['bubblewrap', 400],
  ['docker', 30],
  ['gvisor', 30],
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
  for (const [backend, count] of SHARE)
    test(`${backend}: ${count} of them leave nothing, and nothing hangs`, async (t) => {
      const { ends, problems, seconds } = await campaign({ seed: SEED, count, backend });
      t.diagnostic(`${(count / seconds).toFixed(1)}/s: ${JSON.stringify(ends)}`);
      assert.deepEqual(problems, []);
    });

  test('every share has every kind of kill', () => {
    const all = new Set(planOf(SEED, 10_000).map(({ kind }) => kind));
    assert.equal(all.size, 9);
    for (const [, count] of SHARE)
      assert.deepEqual(new Set(planOf(SEED, count).map(({ kind }) => kind)), all);
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

  test('the same seed makes the same kills, another makes others', () => {
    assert.deepEqual(planOf(7, 50), planOf(7, 100).slice(0, 50));
    assert.notDeepEqual(planOf(7, 50), planOf(8, 50));
  });
});
