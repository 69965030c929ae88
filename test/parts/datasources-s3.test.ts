import assert from 'node:assert/strict';
import { type ExecFileException, execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { type DataPath, startDataPath } from '../support/data-path.ts';
import { openDoorPort } from '../support/door-port.ts';
import { type Rgw, startRgw } from '../support/rgw.ts';

// Programs' S3 clients through a real sidecar and a real proxy against Ceph RGW, which verifies every signature. OUTRIDER_RGW is the
// root of a system with radosgw, OUTRIDER_DATASOURCE_CLIENTS the directory that the AWS SDK was installed into; `.ci/run` makes both. Needs root.

const PEERS = process.env['OUTRIDER_DATASOURCE_CLIENTS'] ?? '';
const CLIENTS = join(packageRoot, 'test/parts/datasources');
const POLICY = (endpoint: string) => `
apiVersion: outrider/v1
kind: Role
metadata: {name: analyst}
spec: {members: [{issuer: 'outrider:local'}], sandbox: {timeout: 30m}}
---
apiVersion: outrider/v1
kind: Boundary
metadata: {name: organisation}
spec: {mayLoopbackDatasources: true}
---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: analyst}
spec:
  subjects: [{role: analyst}]
  mode: enforce
  allow:
    - id: s3
      datasource: s3/data
      prefixes: [tenantA/]
      operations: [get, list, put]
      limits: {rate: 6000/min, burst: 1000}
---
apiVersion: outrider/v1
kind: Datasource
metadata: {name: data}
spec:
  type: s3
  endpoint: ${endpoint}/data
  auth: {type: sigv4, region: us-east-1}
  secretRef: file:s3
  allowLoopback: true
  publicUrlPrefix: https://cdn.example.com/data/
`;

let rgw: Rgw;
let path: DataPath;
let door: Awaited<ReturnType<typeof openDoorPort>>;
before(async () => {
  rgw = await startRgw(process.env['OUTRIDER_RGW'] ?? '/', 'data');
  path = await startDataPath(POLICY(rgw.url), {}, { secrets: { s3: rgw.secret } });
  door = await openDoorPort(await path.sandbox('analyst'));
});
after(async () => {
  await door?.close();
  await path?.stop();
  await rgw?.stop();
});

/** What a client said on its standard output. */
function client(file: string, ...argv: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const done = (error: ExecFileException | null, out: string, err: string) =>
      error ? reject(new Error(err || error.message)) : resolve(out.trim());
    execFile(file, argv, { timeout: 60_000 }, done);
  });
}

test('F3: the AWS SDK puts, streams, reads ranges, lists and uploads in parts; what is not granted is refused', async () => {
  const out = await client(
    process.execPath,
    join(CLIENTS, 's3-client.mjs'),
    `${door.url}/s3`,
    PEERS,
  );
  // Of an upload in parts the ETag is compared: this store's own reading of them is out of order, also without a proxy.
  assert.deepEqual(JSON.parse(out), {
    put: 'stored',
    head: [8, 'me'],
    range: 'out',
    stream: true,
    multipart: partsTag(),
    list: ['tenantA/a b=ü+!.txt', 'tenantA/parts', 'tenantA/stream'],
    'other prefix': { failed: 403 },
    'list of all': { failed: 403 },
    copy: { failed: 403 },
    acl: { failed: 403 },
    delete: { failed: 405 },
    'delete many': { failed: 403 },
    missing: { failed: 404 },
  });
  assert.equal((await rgw.ask('GET', '/data/tenantA/stream')).status, 200, 'it is really there');
});

/** MD5 of the MD5s of the parts: 5 MiB each, as the SDK cuts. */
function partsTag(): string {
  const big = Buffer.alloc(11 * 1_048_576, 'outrider rides ');
  const md5 = (bytes: Buffer) => createHash('md5').update(bytes).digest();
  const parts = [0, 5, 10].map((at) => md5(big.subarray(at * 1_048_576, (at + 5) * 1_048_576)));
  return `"${md5(Buffer.concat(parts)).toString('hex')}-${parts.length}"`;
}

const chunks = (name: string, size: number, variant: string) =>
  client(
    'python3',
    join(CLIENTS, 'chunk_signed_put.py'),
    `${door.url}/s3/data/tenantA/${name}`,
    String(size),
    variant,
  );

for (const size of [0, 1, 65_536, 1_000_003])
  test(`F3: ${size} bytes in chunks signed by a program are stored whole, signed anew`, async () => {
    assert.equal(await chunks(`chunks-${size}`, size, 'good'), '200');
    const stored = await rgw.ask('GET', `/data/tenantA/chunks-${size}`);
    const expected = Buffer.alloc(size, 'outrider rides ');
    assert.ok(expected.equals(Buffer.from(await stored.arrayBuffer())));
  });

test('F3: one flipped byte in the last of many signed chunks, and nothing is stored', async () => {
  assert.equal(await chunks('flipped', 3_000_000, 'flipped'), '403 sigv4_chunk_signature');
  assert.equal((await rgw.ask('HEAD', '/data/tenantA/flipped')).status, 404);
});

test('F3: a checksum behind signed chunks goes along; a wrong one is refused and nothing is stored', async () => {
  assert.equal(await chunks('trailed', 300_000, 'trailer'), '200');
  assert.equal((await rgw.ask('HEAD', '/data/tenantA/trailed')).status, 200);
  assert.equal(await chunks('wrong', 300_000, 'wrong-trailer'), '403 sigv4_chunk_signature');
  assert.equal((await rgw.ask('HEAD', '/data/tenantA/wrong')).status, 404);
});

test('F3: curl signs by itself, by host name and without signing at all', async () => {
  const url = `${door.url}/s3/data/tenantA/curl`;
  const sign = ['--aws-sigv4', 'aws:amz:us-east-1:s3', '--user', 'OUTRIDER:OUTRIDER'];
  const quiet = ['-sS', '-o', '/dev/null', '-w', '%{http_code} %header{x-outrider-public-url}'];
  const put = ['-T', join(CLIENTS, 's3-client.mjs')];
  const told = '200 https://cdn.example.com/data/tenantA/curl';
  assert.equal(await client('curl', ...quiet, ...put, ...sign, url), told);
  assert.equal(await client('curl', ...quiet, ...put, url), told);
  const byHost = ['-x', door.url, 'http://s3-data.outrider.internal/tenantA/curl'];
  assert.equal(await client('curl', ...quiet, ...byHost), '200');
  assert.equal(await client('curl', ...quiet, ...sign, ...byHost), '200');
});

test('control: the judge refuses a signature that is wrong', async () => {
  const answer = await fetch(`${rgw.url}/data/tenantA/curl`, {
    headers: {
      authorization:
        'AWS4-HMAC-SHA256 Credential=AKIAOUTRIDERREAL/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00',
    },
  });
  assert.equal(answer.status, 403);
  await answer.body?.cancel();
});
