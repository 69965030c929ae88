import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { S3_ENV } from './s3-environment.ts';
import { call, ISSUER, python, type Rig, startRig } from './test-rig.ts';

const role = (name: string, subject: string, datasource: string) => `
apiVersion: outrider/v1
kind: Role
metadata: {name: ${name}, owner: tests}
spec:
  members: [{issuer: "${ISSUER}", subject: ${subject}}]
  sandbox: {timeout: 20s, memory: 256MiB}
---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: ${name}-egress, owner: tests}
spec:
  subjects: [{role: ${name}}]
  mode: enforce
  allow: [{id: one, datasource: ${datasource}}]
---
`;

const POLICIES = `${role('stores', 'alice', 's3/results').replace(
  'datasource: s3/results',
  'datasource: s3/results, prefixes: [a/], operations: [get]',
)}${role('asks', 'bob', 'http/api').replace('http/api', 'http/api, methods: [GET], paths: ["/**"]')}
apiVersion: outrider/v1
kind: Datasource
metadata: {name: results, owner: tests}
spec: {type: s3, endpoint: "https://s3.example.com/bucket", auth: {type: none}}
---
apiVersion: outrider/v1
kind: Datasource
metadata: {name: api, owner: tests}
spec: {type: http, endpoint: "https://api.example.com", auth: {type: none}}
`;

let rig: Rig;
before(async () => {
  rig = await startRig(POLICIES, ['--pool-size', '1']);
});
after(() => rig?.stop());

const PROGRAM = `import json, os
print(json.dumps({name: value for name, value in os.environ.items() if name.startswith(("AWS_", "RCLONE_")) and name != "AWS_CA_BUNDLE"}))`;

/** The variables of S3 clients that a program of somebody's finds, having been started with some. */
async function found(subject: string, env: Record<string, string> = {}): Promise<unknown> {
  const spec = { ...python(PROGRAM), env };
  const { stdout } = await call(rig.execs, 'run', { spec }, await rig.as(subject));
  return JSON.parse(stdout.toString());
}

test('F3: a program whose role may ask an S3 datasource finds the door and placeholders where S3 clients look; any other finds none', async () => {
  assert.deepEqual(await found('alice'), S3_ENV);
  assert.deepEqual(await found('bob'), {});
});

test('F3: one that is started with variables of its own for them has those alone', async () => {
  const own = { AWS_ACCESS_KEY_ID: 'mine', AWS_SECRET_ACCESS_KEY: 'mine too' };
  assert.deepEqual(await found('alice', own), own);
});
