import assert from 'node:assert/strict';
import { release } from 'node:os';
import { after, before, test } from 'node:test';
import { credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { type Sandbox, SandboxServiceClient, SandboxSpec } from '#proto';
import { type RunnerMesh, startRunnerMesh } from '../support/runner-mesh.ts';

/** Which backend and image a sandbox gets, on a runner with all three: a real engine and real gVisor. */

const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: plain, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 60s, memory: 256MiB, disk: 32MiB}
---
apiVersion: outrider/v1
kind: Role
metadata: {name: contained, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 60s, memory: 256MiB, disk: 32MiB, minimumTier: container, images: ["outrider-sandbox:latest", "other:1"]}
---
apiVersion: outrider/v1
kind: Role
metadata: {name: walled, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 60s, memory: 256MiB, disk: 32MiB, minimumTier: gvisor}
`;
const TIERS = { namespaces: 1, container: 2, gvisor: 3 } as const;

let mesh: RunnerMesh;
let boxes: SandboxServiceClient;
before(async () => {
  mesh = await startRunnerMesh({
    policies: POLICIES,
    argv: ['--backends', 'bubblewrap,docker,gvisor', '--pool-size', '0'],
  });
  boxes = new SandboxServiceClient(`unix:${mesh.socket}`, credentials.createInsecure());
});
after(async () => {
  boxes.close();
  await mesh.stop();
});

async function create(role: string, spec: Partial<SandboxSpec>): Promise<Sandbox> {
  const request = { spec: SandboxSpec.fromPartial(spec), name: '', role, idempotencyKey: '' };
  const { sandbox } = await new Promise<{ sandbox?: Sandbox | undefined }>((resolve, reject) => {
    boxes.createSandbox(request, new Metadata(), (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
  assert.ok(sandbox);
  return sandbox;
}

function end({ sandboxId }: Sandbox): Promise<void> {
  return new Promise((resolve, reject) => {
    boxes.deleteSandbox({ sandboxId, name: '' }, new Metadata(), (error) =>
      error ? reject(error) : resolve(),
    );
  });
}

test('every backend is usable here', async () => {
  const { backends } = await mesh.client.capabilities();
  assert.deepEqual(
    backends.map(({ name, tier, usable, reason }) => [name, tier, usable, reason]),
    [
      ['bubblewrap', TIERS.namespaces, true, ''],
      ['docker', TIERS.container, true, ''],
      ['gvisor', TIERS.gvisor, true, ''],
    ],
  );
});

for (const [what, role, spec, backend] of [
  ['the default, where nothing is asked', 'plain', {}, 'bubblewrap'],
  ['the one that is named', 'plain', { backend: 'docker' }, 'docker'],
  ['the first of the tier that is asked for', 'plain', { minimumTier: 2 }, 'docker'],
  ["the first of the role's tier", 'contained', {}, 'docker'],
  ["a stronger one than the role's tier, by name", 'contained', { backend: 'gvisor' }, 'gvisor'],
  ["gVisor, where that is the role's tier", 'walled', {}, 'gvisor'],
] as const)
  test(`C8: a sandbox is made by ${what}, and attested so`, async () => {
    const sandbox = await create(role, spec);
    assert.equal(sandbox.attestation?.backend, backend);
    if (backend === 'bubblewrap') assert.equal(sandbox.attestation?.imageDigest, '');
    else assert.match(sandbox.attestation?.imageDigest ?? '', /^sha256:[0-9a-f]{64}$/);
    await end(sandbox);
  });

for (const [what, role, spec, code] of [
  [
    "a weaker backend than the role's tier",
    'contained',
    { backend: 'bubblewrap' },
    'BACKEND_TOO_WEAK',
  ],
  [
    'a weaker backend than the tier asked for',
    'plain',
    { backend: 'docker', minimumTier: 3 },
    'BACKEND_TOO_WEAK',
  ],
  ['an image that only the role allows', 'contained', { image: 'other:1' }, 'IMAGE_NOT_ALLOWED'],
  ['an image that nobody allows', 'contained', { image: 'debian:12' }, 'IMAGE_NOT_ALLOWED'],
  [
    'an image on a backend without images',
    'plain',
    { image: 'outrider-sandbox:latest' },
    'IMAGE_NOT_ALLOWED',
  ],
] as const)
  test(`C12: refused with ${code}: ${what}`, async () => {
    await assert.rejects(create(role, spec), (error: ServiceError) => {
      assert.deepEqual(error.metadata.get('outrider-error-code'), [code]);
      return true;
    });
  });

test('C12: control: the image that both allow is used', async () => {
  await end(await create('contained', { image: 'outrider-sandbox:latest' }));
});

test('C8: a program on gVisor sees its kernel, one on docker the host’s', async () => {
  const code = 'import os; print(os.uname().release)';
  const on = async (backend: string) =>
    (await mesh.client.run({ code, backend, role: 'plain' })).stdout.toString().trim();
  assert.equal(await on('docker'), release());
  assert.equal(await on('bubblewrap'), release());
  assert.notEqual(await on('gvisor'), release());
});
