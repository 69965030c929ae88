import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { diffPolicySets } from '#policies/review';
import { directoryFiles, parseFiles } from '#policystore';
import { demo } from '../support/demo.ts';
import { makePlace, type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { policyCommand } from '../support/policy-command.ts';

// `npm run demo` where no Prometheus is installed; with one it is in test/parts.

let mesh: RunningMesh;
before(async () => {
  mesh = await startMesh();
});
after(() => mesh.stop());

const play = () => demo({ ...mesh.env, PATH: '/nonexistent' });

test('without Prometheus the demo says so, and queries an example API that demands a token', async () => {
  const { code, stdout, stderr } = await play();
  assert.equal(code, 0, `${stdout}${stderr}`);
  assert.match(stdout, /Prometheus is not installed.*an example API takes its place/);
  assert.match(stdout, /Without the credential it answers 401/);
  assert.match(stdout, /│ lantern +12/);
  assert.match(stdout, /✓ allowed by the rule example-read for the role analyst/);
  assert.equal(stdout.match(/ {2}refused {2}/g)?.length, 13);
  assert.doesNotMatch(stdout, /LET THROUGH|NOT IN THE AUDIT|✗/);
  const token = readFileSync(join(mesh.state, 'secrets/example-api-token'), 'utf8').trim();
  assert.ok(token.length >= 32 && !stdout.includes(token) && !mesh.log().includes(token));
});

test("from the demo's audit a policy is suggested that allows exactly what was refused and a policy can mend, and nothing more", async () => {
  const { code, out } = await policyCommand('suggest', mesh.policies, join(mesh.state, 'audit'));
  assert.equal(code, 1);
  const files = await directoryFiles(mesh.policies).read();
  const load = (...more: string[]) =>
    parseFiles([...files, ...more.map((text, at) => ({ name: `more-${at}.yaml`, text }))]).set;
  assert.deepEqual(
    diffPolicySets(load(), load(out)).map((one) => `${one.change}: ${one.example}`),
    ['allowed: POST /http/example/items'],
  );
  // A diff gives one example a rule. With exactly this request denied, nothing at all has changed.
  const deny = [{ id: 'back', datasource: 'http/example', methods: ['POST'], paths: ['/items'] }];
  const back = {
    apiVersion: 'outrider/v1',
    kind: 'EgressPolicy',
    metadata: { name: 'back' },
    spec: { subjects: [{ role: 'analyst' }], mode: 'enforce', allow: [], deny },
  };
  assert.deepEqual(diffPolicySets(load(), load(out, JSON.stringify(back))), []);
  for (const refused of [
    'http://drop.example.net/',
    'CONNECT drop.example.net:443',
    '169.254.169.254',
    'POST /prometheus/metrics/api/v1/admin/tsdb/delete_series: no rule opens this',
  ])
    assert.match(
      out,
      new RegExp(`# No rule is suggested for:[^]*${refused.replaceAll('.', '\\.')}`),
    );
});

test('the demo ends with 1 where something is let through that it calls forbidden', async () => {
  const digest = async () => {
    const answer = await fetch(`http://127.0.0.1:${mesh.ports.proxy}/readyz`);
    return Object(await answer.json()).policyDigest;
  };
  const old = await digest();
  change('test-analyst.yaml', '{verdict: deny, reason: method_not_allowed}', '{verdict: allow}');
  change('egress-analyst.yaml', 'methods: [GET, HEAD]', 'methods: [GET, HEAD, POST]');
  await until('the wider policy is in force', async () => (await digest()) !== old);
  const { code, stdout } = await play();
  assert.equal(code, 1);
  assert.match(stdout, /writing where reading is allowed +LET THROUGH +it worked/);
  assert.match(stdout, /✗ Not everything was as it must be/);
});

test('the demo without a mesh is one clear line and exit code 1', async () => {
  const place = await makePlace();
  try {
    const { code, stdout, stderr } = await demo(place.env);
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(
      stderr,
      /^demo: no mesh is ready at http:\/\/\S+: start it with `npm start`[^\n]*\n$/,
    );
  } finally {
    place.remove();
  }
});

function change(file: string, from: string, to: string): void {
  const path = join(mesh.policies, file);
  const text = readFileSync(path, 'utf8');
  assert.ok(text.includes(from));
  writeFileSync(path, text.replace(from, to));
}
