import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { generateSigningKey, publicIssuer } from '#core/tokens';
import { type Bundle, type Edition, openBundle, sealBundle } from './bundle.ts';
import { keyId, readBundleKey, readTrustedKeys } from './bundle-keys.ts';
import { configuredPolicies } from './config.ts';
import { sortedDocuments } from './digest.ts';
import type { PolicyReload } from './in-force.ts';
import { loadFiles } from './load.ts';
import { policyRecord, readyPolicy } from './report.ts';
import { PolicyStore } from './store.ts';

const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const key = generateKeyPairSync('ed25519').privateKey;
const trusted = [{ id: keyId(key), key: createPublicKey(key) }];

describe('the file of a bundle', () => {
  test('is what was sealed, signed by the key that it names', () => {
    const bundle = bundleOf(['one'], 7);
    assert.deepEqual(openBundle(sealBundle(bundle, key), trusted), { bundle, keyId: keyId(key) });
  });

  const other = generateKeyPairSync('ed25519').privateKey;
  const sealed = sealBundle(bundleOf(['one'], 7), key);
  const envelope = JSON.parse(sealed) as { payload: string; signatures: { sig: string }[] };
  const changed = (change: (one: typeof envelope & { payloadType?: string }) => void): string => {
    const copy = structuredClone(envelope);
    change(copy);
    return JSON.stringify(copy);
  };
  const repacked = (from: string, to: string): string =>
    Buffer.from(Buffer.from(envelope.payload, 'base64').toString().replace(from, to)).toString(
      'base64',
    );
  const refused: readonly (readonly [string, string, RegExp])[] = [
    ['a stranger signed', sealBundle(bundleOf(['one'], 7), other), /not signed by a key/],
    ['nobody signed', changed((one) => void (one.signatures = [])), /is not signed/],
    [
      'has another serial than was signed',
      changed((one) => void (one.payload = repacked('"serial":7', '"serial":8'))),
      /not signed by a key/,
    ],
    [
      'was signed for another purpose',
      changed((one) => void (one.payloadType = 'text/plain')),
      /another purpose/,
    ],
    ['is cut', sealed.slice(0, -20), /not JSON/],
    ['is a policy document', 'apiVersion: outrider/v1', /not JSON/],
    ['is any JSON', '{}', /no policy bundle/],
  ];
  for (const [what, text, message] of refused)
    test(`one that ${what} is refused`, () => {
      assert.throws(() => openBundle(text, trusted), { code: 'POLICY_INVALID', message });
    });

  test('control: a reordered envelope with a second, unknown signature is the same bundle', () => {
    const { payload, signatures } = envelope;
    const text = JSON.stringify({
      signatures: [{ sig: 'AAAA' }, ...signatures],
      payload,
      payloadType: JSON.parse(sealed).payloadType,
    });
    assert.equal(openBundle(text, trusted).bundle.serial, 7);
  });

  const senseless: readonly (readonly [string, Partial<Bundle>])[] = [
    ['no serial', { serial: 0 }],
    ['half a serial', { serial: 1.5 }],
    ['no commit', { commit: 'main' }],
    ['a canary for everybody', { canary: { share: 1, base: editionOf(['two'], 6) } }],
    ['a canary for nobody', { canary: { share: 0, base: editionOf(['two'], 6) } }],
    ['a canary of what is there', { canary: { share: 0.5, base: editionOf(['one'], 6) } }],
    ['a canary that is older', { canary: { share: 0.5, base: editionOf(['two'], 7) } }],
  ];
  for (const [what, fields] of senseless)
    test(`nobody can seal one with ${what}`, () => {
      assert.throws(() => sealBundle({ ...bundleOf(['one'], 7), ...fields }, key), {
        code: 'POLICY_INVALID',
      });
    });
});

describe('keys', () => {
  test('are read from our files and from PEM, and have one name in both', (t) => {
    const root = directory(t);
    const ours = generateSigningKey('outrider:policy');
    writeFileSync(join(root, 'a.key.json'), JSON.stringify(ours));
    writeFileSync(join(root, 'a.pub.json'), JSON.stringify([publicIssuer(ours)]));
    const secret = readBundleKey(join(root, 'a.key.json'));
    writeFileSync(join(root, 'b.key'), secret.export({ type: 'pkcs8', format: 'pem' }));
    writeFileSync(
      join(root, 'b.pem'),
      createPublicKey(secret).export({ type: 'spki', format: 'pem' }),
    );
    assert.equal(keyId(readBundleKey(join(root, 'b.key'))), keyId(secret));
    assert.deepEqual(
      readTrustedKeys(root).map(({ id }) => id),
      [keyId(secret), keyId(secret)],
    );
  });

  test('a private key among the trusted ones, another kind of key, and none are said', (t) => {
    const root = directory(t);
    const path = join(root, 'a.pem');
    const invalid = (message: RegExp) => ({ code: 'CONFIG_INVALID', message });
    assert.throws(() => readTrustedKeys(root), invalid(/has no public key/));
    assert.throws(() => readTrustedKeys(path), invalid(/cannot be read/));
    writeFileSync(path, key.export({ type: 'pkcs8', format: 'pem' }));
    assert.throws(() => readTrustedKeys(root), invalid(/is a private key/));
    writeFileSync(path, JSON.stringify([{ issuer: 'x', keys: [key.export({ format: 'jwk' })] }]));
    assert.throws(() => readTrustedKeys(root), invalid(/is a private key/));
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writeFileSync(path, publicKey.export({ type: 'spki', format: 'pem' }));
    assert.throws(() => readTrustedKeys(root), invalid(/not an Ed25519 key/));
  });
});

describe('a store that reads bundles', () => {
  test('says which revision decides: in readyz, metrics and audit', async (t) => {
    const { store, metrics, records } = await open(t, bundleOf(['one'], 7));
    const { digest } = store.current;
    const { policySince, ...ready } = readyPolicy(store);
    assert.ok(!Number.isNaN(Date.parse(String(policySince))));
    assert.deepEqual(ready, { policyDigest: digest, policyCommit: COMMIT, policySerial: 7 });
    const line = `outrider_policy_info{digest="${digest}",commit="${COMMIT}",serial="7",part="test"} 1`;
    assert.ok((await metrics.text()).body.includes(line));
    assert.deepEqual(records.map(policyRecord), [
      {
        event: 'policy',
        verdict: 'allow',
        policyDigest: digest,
        policyCommit: COMMIT,
        policySerial: 7,
        detail: 'loaded',
      },
    ]);
  });

  test('has a newer one soon', async (t) => {
    const { store, put } = await open(t, bundleOf(['one'], 7));
    put(bundleOf(['one', 'two'], 8));
    await until(() => store.current.set.roles.has('two'));
    assert.deepEqual(store.current.revision, { commit: COMMIT, serial: 8 });
  });

  test('never has an older one, nor another one of the same serial, and says so', async (t) => {
    const { store, put, records, metrics } = await open(t, bundleOf(['one'], 7));
    put(bundleOf(['two'], 6));
    await until(() => /has serial 6, and 7 was loaded/.test(store.failure ?? ''));
    put(bundleOf(['two'], 7));
    await until(() => /serial 7 was another bundle/.test(store.failure ?? ''));
    assert.ok(store.current.set.roles.has('one'));
    assert.match(String(readyPolicy(store)['policyFailure']), /serial 7 was another bundle/);
    assert.match((await metrics.text()).body, /outrider_policy_reload_failing\{part="test"\} 1/);
    const [, record] = records.map(policyRecord);
    assert.equal(record?.verdict, 'error');
    assert.equal(record?.policySerial, 7, 'what stays in force');
    assert.match(record?.detail ?? '', /^refused, the old policy stays: .*serial 6/);
    put(bundleOf(['two'], 8));
    await until(() => store.current.set.roles.has('two'));
    assert.equal(store.failure, undefined);
    assert.match((await metrics.text()).body, /outrider_policy_reload_failing\{part="test"\} 0/);
  });

  test('remembers over a restart what it has loaded', async (t) => {
    const { root, path, store, put } = await open(t, bundleOf(['one'], 7));
    await store.close();
    put(bundleOf(['two'], 6));
    await assert.rejects(start(t, root, path), { code: 'POLICY_INVALID', message: /serial 6/ });
    put({ ...bundleOf(['one'], 7), madeAt: '2027-01-01T00:00:00.000Z' });
    const again = await start(t, root, path);
    assert.equal(again.store.current.revision?.serial, 7, 'the same contents, made again');
    await again.store.close();
    rmSync(join(root, 'state'), { recursive: true });
    put(bundleOf(['two'], 6));
    const forgetful = await start(t, root, path);
    assert.ok(forgetful.store.current.set.roles.has('two'), 'control: it is the state that knows');
  });

  test('does not start with a ledger that nobody can read', async (t) => {
    const { root, path, store } = await open(t, bundleOf(['one'], 7));
    await store.close();
    writeFileSync(join(root, 'state/runner/policy-serial.json'), '');
    await assert.rejects(start(t, root, path), { code: 'CONFIG_INVALID' });
  });

  test('a bundle whose serial cannot be noted is not loaded, and what it stands in keeps its mode', async (t) => {
    const { root, path, store, put } = await open(t, bundleOf(['one'], 7));
    const state = join(root, 'state/runner');
    chmodSync(state, 0o750);
    put(bundleOf(['two'], 8));
    await until(() => store.current.revision?.serial === 8);
    assert.equal(statSync(state).mode & 0o777, 0o750);
    await store.close();
    rmSync(join(root, 'state'), { recursive: true });
    writeFileSync(join(root, 'state'), 'a file where a directory is wanted');
    await assert.rejects(start(t, root, path), {
      code: 'CONFIG_INVALID',
      message: /cannot be written/,
    });
  });

  test('one that was only refused takes no serial', async (t) => {
    const { store, put } = await open(t, bundleOf(['one'], 7));
    put({ ...bundleOf(['two'], 9), digest: '0'.repeat(64) });
    await until(() => /do not have the digest/.test(store.failure ?? ''));
    put(bundleOf(['two'], 8));
    await until(() => store.current.revision?.serial === 8);
  });

  test('a bundle is checked and tested as a directory is', async (t) => {
    const { store, put } = await open(t, bundleOf(['one'], 7));
    const broken = editionOf(['two'], 8);
    put({ ...bundleOf(['two'], 8), documents: [...broken.documents, { kind: 'Rolle' }] });
    await until(() => /documents\/1\.json:\/kind: .*"Role"/.test(store.failure ?? ''));
    const failing = {
      apiVersion: 'outrider/v1',
      kind: 'PolicyTest',
      metadata: { name: 'wrong' },
      spec: {
        as: { role: 'two' },
        cases: [{ name: 'x', request: 'GET https://example.com/', expect: { verdict: 'allow' } }],
      },
    };
    put({ ...bundleOf(['two'], 8), documents: [...broken.documents, failing] });
    await until(() => /PolicyTest\/wrong\.json:.*expected allow/.test(store.failure ?? ''));
    assert.ok(store.current.set.roles.has('one'));
  });
});

describe('what a configuration wants', () => {
  const config = (
    root: string,
    policies: string,
    policyRequire: 'any' | 'bundle',
    keys = true,
  ) => ({
    policies,
    policyRequire,
    policyKeys: keys ? join(root, 'keys') : undefined,
    policySerials: join(root, 'serial.json'),
  });
  const cases = [
    ['any', 'directory', true, undefined],
    ['any', 'bundle', true, undefined],
    ['any', 'bundle', false, /policyKeys must say/],
    ['bundle', 'bundle', true, undefined],
    ['bundle', 'directory', true, /is a directory, and runner\.policyRequire wants a bundle/],
    ['bundle', 'missing', true, /cannot be read/],
    ['any', 'missing', true, /cannot be read/],
  ] as const;
  for (const [require, what, keys, refusal] of cases)
    test(`${require} policies, a ${what}${keys ? '' : ' and no keys'}: ${refusal ? 'refused' : 'loaded'}`, async (t) => {
      const root = directory(t);
      writeKeys(join(root, 'keys'));
      writeFileSync(join(root, 'bundle'), sealBundle(bundleOf(['one'], 1), key));
      mkdirSync(join(root, 'directory'));
      const read = async () =>
        configuredPolicies('runner', config(root, join(root, what), require, keys)).read();
      if (refusal) await assert.rejects(read(), { message: refusal });
      else await read();
    });
});

describe('a canary', () => {
  const canary = (share: number, serial: number): Bundle => ({
    ...bundleOf(['one', 'two'], serial),
    canary: { share, base: editionOf(['one'], 7) },
  });

  test('is the policy of its share of new sandboxes, and the base of all others', async (t) => {
    const draws = [0.05, 0.1, 0.5, 0.99];
    const { store, metrics, records } = await open(t, canary(0.1, 8), () => draws.shift() ?? 0);
    const got = draws.slice().map(() => store.forNewSandbox().revision?.serial);
    assert.deepEqual(got, [8, 7, 7, 7]);
    assert.equal(store.current.revision?.serial, 7);
    const { policyCanary } = readyPolicy(store) as { policyCanary: Record<string, unknown> };
    assert.deepEqual([policyCanary['serial'], policyCanary['share']], [8, 0.1]);
    assert.match((await metrics.text()).body, /serial="7",part="test"\} 0\.9\n/);
    assert.match((await metrics.text()).body, /serial="8",part="test"\} 0\.1\n/);
    assert.match(records.map(policyRecord)[0]?.detail ?? '', /canary of 0\.1: .*serial 8/);
  });

  test('and its base are both known by their digests until neither is in force', async (t) => {
    const { store, put } = await open(t, canary(0.5, 8));
    const [base, tried] = store.inForce.map(({ digest }) => digest);
    assert.ok(base && tried);
    assert.equal(store.ofDigest(base)?.revision?.serial, 7);
    assert.equal(store.ofDigest(tried)?.revision?.serial, 8);
    put({ ...editionOf(['one'], 9), madeAt: '2026-11-21T00:00:00.000Z', canary: null });
    await until(() => store.canary === undefined);
    assert.equal(store.current.revision?.serial, 9, 'the old documents, with a new serial');
    assert.equal(store.current.digest, base);
    assert.equal(store.ofDigest(tried), undefined);
    assert.equal(
      store.knows(tried),
      true,
      'execs that began under it go on, held to the current one',
    );
  });
});

function editionOf(roles: readonly string[], serial: number): Edition {
  const { digest, documents } = loadFiles(
    roles.map((name) => ({
      name: `${name}.yaml`,
      text: `apiVersion: outrider/v1
kind: Role
metadata: {name: ${name}}
spec: {members: [{issuer: outrider:local}], sandbox: {}}
`,
    })),
  );
  return { serial, commit: COMMIT, digest, documents: sortedDocuments(documents.roles) };
}

function bundleOf(roles: readonly string[], serial: number): Bundle {
  return { ...editionOf(roles, serial), madeAt: '2026-11-21T00:00:00.000Z', canary: null };
}

async function open(t: TestContext, bundle: Bundle, random?: () => number) {
  const root = directory(t);
  const path = join(root, 'policies.bundle.json');
  const put = (next: Bundle, by: KeyObject = key) => {
    writeFileSync(`${path}.new`, sealBundle(next, by));
    renameSync(`${path}.new`, path);
  };
  put(bundle);
  writeKeys(join(root, 'keys'));
  return { root, path, put, ...(await start(t, root, path, random)) };
}

async function start(t: TestContext, root: string, path: string, random?: () => number) {
  const metrics = new Metrics('test');
  const records: PolicyReload[] = [];
  const store = await PolicyStore.open({
    source: configuredPolicies('runner', {
      policies: path,
      policyKeys: join(root, 'keys'),
      policyRequire: 'bundle',
      policySerials: join(root, 'state/runner/policy-serial.json'),
    }),
    log: silentLogger,
    metrics,
    onRecord: (change) => records.push(change),
    ...(random ? { random } : {}),
  });
  t.after(() => store.close());
  return { store, metrics, records };
}

function writeKeys(path: string): void {
  mkdirSync(path, { recursive: true });
  writeFileSync(
    join(path, 'ours.pem'),
    createPublicKey(key).export({ type: 'spki', format: 'pem' }),
  );
}

/** Resolves when the condition holds; at most a minute. */
async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, 'waited a minute');
    await sleep(20);
  }
}

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'outrider-bundle-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
