import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, Metadata } from '@grpc/grpc-js';
import { closeServer, listen } from '#core/http';
import { type Sandbox, SandboxServiceClient } from '#proto';
import { policy } from '../../cli/index.ts';
import { makePlace, startMesh } from '../support/mesh.ts';
import { type RunnerMesh, startRunnerMesh } from '../support/runner-mesh.ts';

/**
 * From a commit to what programs may do, and back: Git, the commands of `outrider policy`, and a proxy, a sidecar and a runner
 * that load nothing but bundles.
 */

const root = mkdtempSync(join(tmpdir(), 'outrider-rollout-'));
const repository = join(root, 'repository');
const bundle = join(root, 'policies.bundle.json');
const keys = { key: join(root, 'ours.key.json'), open: join(root, 'ours.pub.json') };
const api = createServer((_, response) => void response.end('metrics'));
let port = 0;
let mesh: RunnerMesh;

before(async () => {
  const address = await listen(api, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  port = address.kind === 'tcp' ? address.port : 0;
  mkdirSync(join(repository, 'policies'), { recursive: true });
  git('init', '-q', '-b', 'main');
  commit('/**', 'the beginning');
  await outrider('keygen', join(root, 'ours'));
  await outrider('bundle', join(repository, 'policies'), '--key', keys.key, '--out', bundle);
  mesh = await startRunnerMesh({ policies: '', bundle: { path: bundle, keys: keys.open } });
});
after(async () => {
  await mesh.stop();
  await closeServer(api);
  rmSync(root, { recursive: true, force: true });
});

test('a bad rule reaches the canary alone, every sandbox says which revision it has, and one command goes back', async () => {
  const good = git('rev-parse', 'HEAD');
  assert.deepEqual(await fetchInSandbox(), { status: 200, serial: 1_000, commit: good });
  assert.equal((await ready('runner'))['policyCommit'], good);
  assert.equal((await ready('proxy'))['policyCommit'], good);

  copyFileSync(bundle, join(root, 'before.json'));
  commit('/nothing', 'a rule that is too narrow');
  const bad = git('rev-parse', 'HEAD');
  const directory = join(repository, 'policies');
  const args = ['--key', keys.key, '--out', bundle, '--canary', '0.5', '--base', bundle];
  await outrider('bundle', directory, ...args);
  await untilBoth((body) => Object(body['policyCanary']).serial === 2_000);

  const seen = new Map<number, Fetched>();
  for (let tries = 0; seen.size < 2 && tries < 64; tries++) {
    const one = await fetchInSandbox();
    assert.deepEqual(
      one,
      one.serial === 1_000
        ? { status: 200, serial: 1_000, commit: good }
        : { status: 403, serial: 2_000, commit: bad },
    );
    seen.set(one.serial, one);
  }
  assert.deepEqual(new Set(seen.keys()), new Set([1_000, 2_000]), 'in 64 sandboxes both');

  const kept = await keepOneOf(bad);
  await outrider('rollback', bundle, '--key', keys.key);
  await untilBoth((body) => body['policySerial'] === 2_001 && body['policyCanary'] === undefined);
  for (let times = 0; times < 8; times++)
    assert.deepEqual(await fetchInSandbox(), { status: 200, serial: 2_001, commit: good });
  const moved = await sandbox(kept.sandboxId);
  assert.deepEqual([moved.policyCommit, moved.policySerial], [good, 2_001n]);

  copyFileSync(join(root, 'before.json'), bundle);
  await untilBoth((body) =>
    /has serial 1000, and 2001 was loaded/.test(String(body['policyFailure'])),
  );
  assert.equal((await fetchInSandbox()).serial, 2_001, 'an older bundle is no way back');
});

test('the audit of every part says by which revision, and when it changed', async () => {
  const proxy = records('proxy.jsonl');
  const changes = proxy.filter(({ event }) => event === 'policy');
  assert.deepEqual(
    changes.map(({ verdict, policySerial }) => [verdict, policySerial]),
    [
      ['allow', 1_000],
      ['allow', 1_000], // the base of the canary
      ['allow', 2_001],
      ['error', 2_001],
    ],
  );
  assert.match(String(changes[1]?.['detail']), /canary of 0\.5: .* serial 2000/);
  for (const [file, event] of [
    ['proxy.jsonl', 'request'],
    ['sidecar.jsonl', 'request'],
    ['runner.jsonl', 'exec'],
  ] as const) {
    const serials = new Set(
      records(file)
        .filter((one) => one['event'] === event)
        .map(({ policyDigest, policyCommit, policySerial }) => {
          assert.match(
            `${String(policyDigest)} ${String(policyCommit)}`,
            /^[0-9a-f]{64} [0-9a-f]{40}$/,
          );
          return policySerial;
        }),
    );
    // What the canary's sidecar refuses never reaches the proxy.
    const canary = file === 'proxy.jsonl' ? [] : [2_000];
    assert.deepEqual(serials, new Set([1_000, ...canary, 2_001]), file);
  }
  assert.equal(records('runner.jsonl').filter(({ event }) => event === 'policy').length, 4);
});

test('`outrider up` takes a bundle, and no directory where a bundle is required', async () => {
  const given = ['--policy-keys', keys.open, '--policy-require', 'bundle'];
  const place = await makePlace({});
  const directory = await place.outrider(['up', ...given]);
  place.remove();
  assert.equal(directory.code, 1);
  assert.match(
    directory.stderr,
    /is a directory, and (gateway|runner|proxy)\.policyRequire wants a bundle/,
  );
  const whole = await startMesh({ argv: ['--policies', bundle, ...given] });
  try {
    const { stdout } = await whole.sdk.run('print(6 * 7)');
    assert.equal(stdout, '42\n');
    for (const part of ['proxy', 'runner']) {
      const [loaded] = whole.audit(part).filter(({ event }) => event === 'policy');
      assert.equal(loaded?.['policySerial'], 1_000, part);
    }
  } finally {
    await whole.stop();
  }
});

interface Fetched {
  readonly status: number;
  readonly serial: number;
  readonly commit: string;
}

/** What a program of a new sandbox gets from the API, and the revision that its sandbox reports. */
async function fetchInSandbox(): Promise<Fetched> {
  const { started, stdout, stderr } = await mesh.client.run({ code: PROGRAM });
  assert.ok(started);
  const status = Number(stdout.toString());
  assert.ok(status > 0, stderr.toString());
  return { status, serial: Number(started.policySerial), commit: started.policyCommit };
}

const PROGRAM = `
import os, urllib.request, urllib.error
try:
    print(urllib.request.urlopen(os.environ['OUTRIDER_URL'] + '/http/api/items').status)
except urllib.error.HTTPError as refused:
    print(refused.code)
`;

/** A sandbox that is kept, of the revision of a commit; others are deleted. */
async function keepOneOf(wanted: string): Promise<Sandbox> {
  for (let tries = 0; tries < 64; tries++) {
    const { sandbox: made } = await call('createSandbox', { spec: undefined, name: '' });
    assert.ok(made);
    const found = await sandbox(made.sandboxId);
    if (found.policyCommit === wanted) return found;
    await call('deleteSandbox', { sandboxId: made.sandboxId });
  }
  throw new assert.AssertionError({ message: '64 sandboxes, and none of the canary' });
}

async function sandbox(sandboxId: string): Promise<Sandbox> {
  const { sandbox: found } = await call('getSandbox', { sandboxId });
  assert.ok(found);
  return found;
}

async function call(
  method: 'createSandbox' | 'getSandbox' | 'deleteSandbox',
  fields: Record<string, unknown>,
): Promise<{ sandbox?: Sandbox | undefined }> {
  const client = new SandboxServiceClient(`unix:${mesh.socket}`, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      const request = { spec: undefined, name: '', role: '', idempotencyKey: '', ...fields };
      const send: unknown = client[method];
      assert.ok(typeof send === 'function');
      Reflect.apply(send, client, [
        request,
        new Metadata(),
        (error: Error | null, answer: { sandbox?: Sandbox }) =>
          error ? reject(error) : resolve(answer),
      ]);
    });
  } finally {
    client.close();
  }
}

/** Waits until proxy and runner both say so; at most a minute. */
async function untilBoth(holds: (body: Record<string, unknown>) => boolean): Promise<void> {
  for (const until = Date.now() + 60_000; Date.now() < until; await sleep(50))
    if (holds(await ready('proxy')) && holds(await ready('runner'))) return;
  assert.fail(`waited a minute: ${JSON.stringify([await ready('proxy'), await ready('runner')])}`);
}

function ready(part: 'proxy' | 'runner'): Promise<Record<string, unknown>> {
  const socket = part === 'runner' ? 'admin.sock' : `${part}-admin.sock`;
  return new Promise((resolve, reject) => {
    get({ socketPath: join(mesh.runtime, socket), path: '/readyz', agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => void (body += text));
      response.on('end', () => resolve(Object(JSON.parse(body))));
    }).on('error', reject);
  });
}

function records(file: string): Record<string, unknown>[] {
  return readFileSync(join(mesh.directory, 'state/audit', file), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => Object(JSON.parse(line)));
}

/** Commits a policy whose programs may read these paths of the API. */
function commit(paths: string, message: string): void {
  writeFileSync(
    join(repository, 'policies/all.yaml'),
    `apiVersion: outrider/v1
kind: Role
metadata: {name: analyst, owner: tests}
spec: {members: [{issuer: outrider:local}], sandbox: {timeout: 30s, sessions: 64}}
---
apiVersion: outrider/v1
kind: Boundary
metadata: {name: organisation, owner: tests}
spec: {mayLoopbackDatasources: true}
---
apiVersion: outrider/v1
kind: Datasource
metadata: {name: api, owner: tests, description: An API}
spec: {type: http, endpoint: "http://127.0.0.1:${port}", allowLoopback: true, auth: {type: none}}
---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: analyst, owner: tests}
spec:
  subjects: [{role: analyst}]
  mode: enforce
  allow:
    - {id: api, datasource: http/api, methods: [GET], paths: ["${paths}"]}
`,
  );
  git('add', '.');
  git('commit', '-m', message);
}

function git(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(
    'git',
    ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args],
    { cwd: repository, encoding: 'utf8' },
  );
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

async function outrider(...argv: string[]): Promise<void> {
  const [out, err] = [new PassThrough(), new PassThrough()];
  assert.equal(await policy(argv, out, err), 0, String(err.read()));
}
