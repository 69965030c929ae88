import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startMesh,
  startOrigin,
} from './testing.ts';

// What a secret with control characters does where it is named: X012.

const LINES = 'abc\r\nX-Evil: 1';
const PROBLEM =
  'Datasource http/keyed (file:key): the secret holds a control or non-ASCII character';

async function rig(t: TestContext) {
  const { port } = await startOrigin(t);
  const free = datasource('http', 'free', `http://127.0.0.1:${port}`);
  const keyed = datasource('http', 'keyed', `http://127.0.0.1:${port}`, {
    auth: { type: 'bearer' },
    secretRef: 'file:key',
  });
  const rule = (name: string) => ({ id: name, datasource: `http/${name}` });
  return {
    without: [ROLE, BOUNDARY, egressPolicy([rule('free')]), free],
    with: [ROLE, BOUNDARY, egressPolicy([rule('free'), rule('keyed')]), free, keyed],
  };
}

/** What /readyz says, when it holds. */
async function readySays(
  { addresses: { admin } }: Mesh,
  holds: (said: { status: number; body: Record<string, unknown> }) => boolean,
): Promise<Record<string, unknown>> {
  assert.ok(admin.kind === 'tcp');
  const { host, port } = admin;
  for (const end = performance.now() + 60_000; performance.now() < end; await sleep(20)) {
    const said = await new Promise<{ status: number; body: Record<string, unknown> }>(
      (resolve, reject) => {
        get({ host, port, path: '/readyz' }, (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk));
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }),
          );
        }).on('error', reject);
      },
    );
    if (holds(said)) return said.body;
  }
  return assert.fail('waited a minute');
}

test('X012: with a secret that could end a header the proxy does not start, and says which slot it is and nothing of it', async (t) => {
  const documents = await rig(t);
  await assert.rejects(
    startMesh(t, { documents: documents.with, secrets: { key: LINES } }),
    (error: Error) =>
      'code' in error && error.code === 'POLICY_INVALID' && error.message === PROBLEM,
  );
  await startMesh(t, { documents: documents.with }); // control: one that is absent may come
});

test('X012: a policy that names such a secret does not come into force, and does when the secret is put right', async (t) => {
  const documents = await rig(t);
  const mesh = await startMesh(t, { documents: documents.without, secrets: { key: LINES } });
  mesh.writePolicies(documents.with);
  const { policyDigest } = await readySays(mesh, ({ body }) => body['policyFailure'] === PROBLEM);
  assert.equal(policyDigest, mesh.digest, 'the old one stays');
  assert.equal((await mesh.ask('/http/free/x')).status, 200);
  assert.equal((await mesh.ask('/http/keyed/x')).status, 404);
  const refusals = mesh.records().filter(({ code }) => code === 'POLICY_INVALID');
  assert.equal(refusals.length, 1);
  writeFileSync(join(mesh.directory, 'state/secrets/key'), 'sesame');
  await readySays(mesh, ({ body }) => body['policyDigest'] !== mesh.digest);
  assert.equal((await mesh.ask('/http/keyed/x')).status, 200);
  assert.ok(!JSON.stringify(mesh.records()).includes('X-Evil'));
});

test('a secret that becomes such a one later is refused at each call, and the proxy is not ready', async (t) => {
  const documents = await rig(t);
  const mesh = await startMesh(t, { documents: documents.with, secrets: { key: 'sesame' } });
  await readySays(mesh, ({ status }) => status === 200);
  writeFileSync(join(mesh.directory, 'state/secrets/key'), LINES);
  await readySays(mesh, ({ status }) => status === 503);
  const { status, error } = await mesh.ask('/http/keyed/x');
  assert.deepEqual([status, error.reason], [503, 'secret_control_char']);
  assert.equal((await mesh.ask('/http/free/x')).status, 200);
});
