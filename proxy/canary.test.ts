import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Bundle, type Edition, loadFiles, sealBundle, sortedDocuments } from '#policystore';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startMesh,
  startOrigin,
  type TestDocument,
} from './testing.ts';

const [OLD, NEW] = ['a'.repeat(40), 'b'.repeat(40)];

test('each sandbox is decided for by the policy that its token names, until one command goes back', async (t) => {
  const { mesh, put, base, tried } = await canaryMesh(t);
  const ask = async (policyDigest: string, path: string) =>
    mesh.ask(path, { token: await mesh.token({ policyDigest }) });

  assert.equal((await ask(base.digest, '/http/api/old')).status, 200);
  assert.equal((await ask(base.digest, '/http/api/new')).error.reason, 'path_not_allowed');
  assert.equal((await ask(tried.digest, '/http/api/new')).status, 200);
  assert.equal((await ask(tried.digest, '/http/api/old')).error.reason, 'path_not_allowed');
  assert.equal((await ask('f'.repeat(64), '/http/api/old')).error.code, 'POLICY_MISMATCH');
  const revisions = records(mesh).map(({ policyDigest, policyCommit, policySerial }) => [
    policyDigest,
    policyCommit,
    policySerial,
  ]);
  const [first, second] = [
    [base.digest, OLD, 3],
    [tried.digest, NEW, 4],
  ];
  assert.deepEqual(revisions.slice(0, 4), [first, first, second, second]);

  put({ ...base, serial: 5, madeAt: '2026-11-21T00:00:00.000Z', canary: null });
  await readySays(mesh, (body) => body['policySerial'] === 5);
  assert.equal((await ask(tried.digest, '/http/api/new')).error.reason, 'path_not_allowed');
  assert.equal((await ask(tried.digest, '/http/api/old')).status, 200, 'held to what is in force');
  assert.equal((await ask(base.digest, '/http/api/old')).status, 200);
});

test('a slot that only the canary needs is missed, too', async (t) => {
  const { mesh } = await canaryMesh(t, [
    datasource('http', 'keyed', 'http://127.0.0.1:9', {
      auth: { type: 'bearer' },
      secretRef: 'file:later',
    }),
  ]);
  await readySays(mesh, (body) => String(body['unresolvedSecrets']).includes('file:later'));
});

async function canaryMesh(t: TestContext, more: readonly TestDocument[] = []) {
  const origin = await startOrigin(t);
  const allowing = (path: string) => [
    ROLE,
    BOUNDARY,
    datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    egressPolicy([{ id: 'api', datasource: 'http/api', methods: ['GET'], paths: [path] }]),
  ];
  const documents = allowing('/old');
  const base = editionOf(documents, 3, OLD);
  const tried = editionOf([...allowing('/new'), ...more], 4, NEW);

  const directory = mkdtempSync(join(tmpdir(), 'outrider-canary-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const key = generateKeyPairSync('ed25519').privateKey;
  const open = createPublicKey(key).export({ type: 'spki', format: 'pem' });
  writeFileSync(join(directory, 'key.pem'), open);
  const policies = join(directory, 'policies.bundle.json');
  const put = (bundle: Bundle) => {
    writeFileSync(`${policies}.new`, sealBundle(bundle, key));
    renameSync(`${policies}.new`, policies);
  };
  put({ ...tried, madeAt: '2026-11-21T00:00:00.000Z', canary: { share: 0.1, base } });
  const config = { policyKeys: join(directory, 'key.pem'), policyRequire: 'bundle' };
  return { mesh: await startMesh(t, { documents, config, policies }), put, base, tried };
}

function editionOf(documents: readonly TestDocument[], serial: number, commit: string): Edition {
  const loaded = loadFiles(
    documents.map((one, index) => ({
      name: `${index}.yaml`,
      text: JSON.stringify({ apiVersion: 'outrider/v1', ...one }),
    })),
  );
  const all = sortedDocuments(Object.values(loaded.documents).flat());
  return { serial, commit, digest: loaded.digest, documents: all };
}

function records(mesh: Mesh): Record<string, unknown>[] {
  return mesh.records().filter(({ event }) => event === 'request');
}

/** Resolves when `/readyz` says so; at most 5 s. */
async function readySays(
  { addresses: { admin } }: Mesh,
  holds: (body: Record<string, unknown>) => boolean,
): Promise<void> {
  assert.ok(admin.kind === 'tcp');
  const { host, port } = admin;
  for (const until = Date.now() + 5_000; Date.now() < until; await sleep(20)) {
    const body = await new Promise<string>((resolve, reject) => {
      get({ host, port, path: '/readyz' }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk));
        response.on('end', () => resolve(text));
      }).on('error', reject);
    });
    if (holds(JSON.parse(body))) return;
  }
  assert.fail('waited 5 s');
}
