import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ExecSpec, KilledBy, SandboxSpec } from '#proto';
import { call, codeOf, type Rig, startRig } from './test-rig.ts';

/** The runner of somebody who is not root and to whom the host gives no control groups. */

const isRoot = process.getuid?.() === 0;
/** Root becomes somebody without a name, a home or a control group; anybody else is that already. */
const USER = isRoot ? 23_456 : undefined;

const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members: [{issuer: "https://idp.test"}]
  sandbox: {memory: 256MiB, disk: 8MiB, timeout: 20s, pids: 64, profiles: [python, node, shell]}
`;

describe('C8 C9: the runner of an ordinary user without control groups', () => {
  let rig: Rig;
  before(async () => {
    rig = await startRig(POLICIES, [], USER);
  });
  after(() => rig.stop());
  const run = async (profile: string, code: string, language = 'python') =>
    call(
      rig.execs,
      'run',
      {
        spec: ExecSpec.fromPartial({
          program: { $case: 'source', value: { language, code } },
          target: { $case: 'fresh', value: SandboxSpec.fromPartial({ profile }) },
        }),
      },
      await rig.as('alice'),
    );

  test('is ready, and says which profile cannot be used and why', async () => {
    const { status, unusableProfiles } = await rig.readyz();
    assert.equal(status, 'ready');
    const reason = 'the profile node needs control groups for its memory limit';
    assert.match(JSON.stringify(unusableProfiles), new RegExp(`^\\{"node":"${reason}.*"\\}$`));
  });

  test('tells a caller the same', async () => {
    const { profiles } = await call(rig.boxes, 'getCapabilities', {}, await rig.as('alice'));
    const reasons = Object.fromEntries(profiles.map(({ name, reason }) => [name, reason]));
    assert.match(reasons['node'] ?? '', /^the profile node needs control groups/);
    assert.deepEqual([reasons['python'], reasons['shell']], ['', '']);
  });

  test('refuses that profile before anything is made, with the same words', async () => {
    await assert.rejects(run('node', '', 'javascript'), /the profile node needs control groups/);
    assert.equal(await codeOf(run('node', '', 'javascript')), 'BACKEND_UNAVAILABLE');
    assert.doesNotMatch(rig.log, /a warm sandbox could not be made/, 'nor is one tried to be kept');
  });

  test('runs the others, never as root, and attests how each limit is kept', async () => {
    const { started, stdout } = await run('python', 'import os; print(os.getuid() != 0)');
    assert.equal(stdout.toString(), 'True\n');
    const { hostUid, limitMechanisms } = started?.attestation ?? {};
    assert.equal(hostUid, USER ?? process.getuid?.());
    const told = { memory: 'rlimit', pids: 'rlimit', cpu: 'none', disk: 'tmpfs' };
    assert.deepEqual({ ...limitMechanisms }, told);
  });

  test('keeps memory by address space: more is the program’s own MemoryError', async () => {
    const tried = await run('python', `print(len(bytearray(${200 * 2 ** 20})))\nbytearray(2**29)`);
    assert.equal(tried.stdout.toString(), `${200 * 2 ** 20}\n`, 'control: what fits is given');
    assert.deepEqual(
      [tried.end?.killedBy, tried.end?.exitCode, tried.end?.exception?.type],
      [KilledBy.EXIT, 1, 'MemoryError'],
    );
  });
});

test('control: as root, with control groups, the same policy has every profile', {
  skip: isRoot ? false : 'needs root; .ci/run runs as root',
}, async (t) => {
  const rig = await startRig(POLICIES);
  t.after(() => rig.stop());
  const { unusableProfiles } = await rig.readyz();
  assert.deepEqual(unusableProfiles, {}, rig.log);
});
