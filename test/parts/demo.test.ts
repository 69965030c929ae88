import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { demo } from '../support/demo.ts';
import { type RunningMesh, startMesh } from '../support/mesh.ts';
import { readProc } from '../support/processes.ts';

// `npm run demo` against a running mesh, with the Prometheus of Debian.

let mesh: RunningMesh;
before(async () => {
  mesh = await startMesh();
});
after(() => mesh.stop());

test('the demo: a real Prometheus answers the allowed query, and everything else is refused', async () => {
  const { code, stdout, stderr } = await demo(mesh.env);
  assert.equal(code, 0, `${stdout}${stderr}`);
  assert.equal(stderr, '');
  assert.match(
    stdout,
    /Prometheus \d+\.\d+\.\d+ on 127\.0\.0\.1:\d+: it scrapes gateway, runner, sidecar, proxy/,
  );
  assert.match(stdout, /Without the credential it answers 401/);
  for (const part of ['gateway', 'proxy', 'runner', 'sidecar'])
    assert.match(stdout, new RegExp(`│ ${part} +\\d+\\.\\d MiB +\\d+\\.\\d\\d s`));
  assert.match(stdout, /✓ allowed by the rule metrics-read for the role analyst/);
  assert.match(stdout, /proxy +allow +200 +metrics-read +GET prometheus\/metrics\/api\/v1\/query/);
  assert.equal(stdout.match(/ {2}refused {2}/g)?.length, 13);
  assert.doesNotMatch(stdout, /LET THROUGH|NOT IN THE AUDIT|✗/);
  assert.match(
    stdout,
    /sidecar +deny +host_not_allowed +403 +boundary:quickstart +GET http:\/\/drop\.example\.net\//,
  );
  assert.match(stdout, /Of three planted words it found 3/);
  assert.match(stdout, /signatures checked: nothing wrong/);
});

test('the demo left its password where the proxy reads it, for its owner only, and nowhere else', () => {
  const file = join(mesh.state, 'secrets/metrics-password');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const password = readFileSync(file, 'utf8').trim();
  assert.ok(password.length >= 32);
  const basic = Buffer.from(`outrider:${password}`).toString('base64');
  const audit = readdirSync(join(mesh.state, 'audit')).map((name) =>
    readFileSync(join(mesh.state, 'audit', name), 'utf8'),
  );
  const processes = mesh
    .processes()
    .filter(({ pid }) => pid !== mesh.part('proxy'))
    .map(({ pid }) => readProc(pid, 'environ') + readProc(pid, 'cmdline'));
  assert.ok(processes.length >= 5);
  for (const text of [mesh.log(), ...audit, ...processes])
    for (const secret of [password, basic]) assert.ok(!text.includes(secret));
});

test('the demo stops what it started', async () => {
  await assert.rejects(fetch(`http://127.0.0.1:${mesh.ports.metrics}/`));
  const left = readdirSync(tmpdir()).filter((name) => name.startsWith('outrider-prometheus-'));
  assert.deepEqual(left, []);
});
