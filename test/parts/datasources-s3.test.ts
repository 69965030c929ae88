import assert from 'node:assert/strict';
import { type ExecFileException, execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { S3_ENV } from '#runner';
import { type DataPath, startDataPath } from '../support/data-path.ts';
import { openDoorPort } from '../support/door-port.ts';
import { analystPolicies, loopbackDatasource } from '../support/policies.ts';
import { type Rgw, startRgw } from '../support/rgw.ts';
import { type S3StandIn, startS3StandIn } from '../support/s3-stand-in.ts';

// Programs' S3 clients through a real sidecar and a real proxy against Ceph RGW, which verifies every signature. OUTRIDER_RGW is the
// root of a system with radosgw, OUTRIDER_DATASOURCE_CLIENTS the directory that the AWS SDK was installed into, OUTRIDER_AWS_CLI an AWS CLI that knows
// AWS_ENDPOINT_URL_S3, which Debian's does not; `.ci/run` makes them. Needs root.

const PEERS = process.env['OUTRIDER_DATASOURCE_CLIENTS'] ?? '';
const CLIENTS = join(packageRoot, 'test/parts/datasources');
const POLICY = (endpoint: string, standIn: string) =>
  analystPolicies(
    [
      {
        id: 's3',
        datasource: 's3/data',
        prefixes: ['tenantA/'],
        operations: ['get', 'list', 'put'],
        limits: { rate: '6000/min', burst: 1000 },
      },
      {
        id: 'work',
        datasource: 's3/work',
        prefixes: ['work/'],
        operations: ['get', 'list', 'put', 'delete'],
        limits: { rate: '6000/min', burst: 1000 },
      },
      {
        id: 'copies',
        datasource: 's3/copies',
        prefixes: ['work/'],
        operations: ['get', 'put'],
        limits: { rate: '6000/min', burst: 1000 },
      },
    ],
    [
      loopbackDatasource('s3', 'data', `${endpoint}/data`, {
        auth: { type: 'sigv4', region: 'us-east-1' },
        secretRef: 'file:s3',
        publicUrlPrefix: 'https://cdn.example.com/data/',
      }),
      // The same bucket by another name.
      loopbackDatasource('s3', 'work', `${endpoint}/data`, {
        auth: { type: 'sigv4', region: 'us-east-1' },
        secretRef: 'file:s3',
      }),
      loopbackDatasource('s3', 'copies', `${standIn}/data`, {
        auth: { type: 'sigv4', region: 'us-east-1' },
        secretRef: 'file:s3',
      }),
    ],
  );

const home = mkdtempSync(join(tmpdir(), 'o-s3-'));
let rgw: Rgw;
let standIn: S3StandIn;
let path: DataPath;
let door: Awaited<ReturnType<typeof openDoorPort>>;
before(async () => {
  rgw = await startRgw(process.env['OUTRIDER_RGW'] ?? '/', 'data');
  standIn = await startS3StandIn({ 'work/a b+c=ü.txt': '1.5', 'secret/k': '1.5' });
  path = await startDataPath(POLICY(rgw.url, standIn.url), {}, { secrets: { s3: rgw.secret } });
  door = await openDoorPort(await path.sandbox('analyst'));
});
after(async () => {
  await door?.close();
  await path?.stop();
  await standIn?.close();
  await rgw?.stop();
  rmSync(home, { recursive: true, force: true });
});

/** What a client said on its standard output. */
function client(
  file: string,
  ...given: readonly (string | Readonly<Record<string, string | undefined>>)[]
): Promise<string> {
  const argv = given.filter((one) => typeof one === 'string');
  const env = given.find((one) => typeof one !== 'string');
  return new Promise((resolve, reject) => {
    const done = (error: ExecFileException | null, out: string, err: string) =>
      error ? reject(new Error(err || error.message)) : resolve(out.trim());
    execFile(file, argv, { timeout: 60_000, ...(env && { env }) }, done);
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

/** The AWS CLI with the environment that a sandbox gives it, at another port of loopback; without `told` with none of that. */
const aws = (argv: readonly string[], told = true) =>
  client(process.env['OUTRIDER_AWS_CLI'] ?? 'aws', ...argv, {
    PATH: process.env['PATH'],
    HOME: home,
    ...(told && { ...S3_ENV, AWS_ENDPOINT_URL_S3: `${door.url}/s3` }),
  });

test('F3: the AWS CLI, unmodified, copies, streams, lists and synchronises by the environment of a sandbox', async () => {
  const file = join(home, 'large');
  const bytes = Buffer.alloc(9 * 1_048_576, 'outrider rides ');
  writeFileSync(file, bytes);
  await aws(['s3', 'cp', '--no-progress', file, 's3://data/tenantA/cli/large']); // in parts
  const whole = bytes.subarray(0, 7 * 1_048_576);
  writeFileSync(`${file}.whole`, whole);
  await aws(['s3', 'cp', '--no-progress', `${file}.whole`, 's3://data/tenantA/cli/whole']);
  await aws(['s3', 'cp', '--no-progress', 's3://data/tenantA/cli/whole', `${file}.back`]);
  assert.ok(whole.equals(readFileSync(`${file}.back`)));
  assert.match(await aws(['s3', 'ls', 's3://data/tenantA/cli/']), / 9437184 large$/m);
  const directory = join(home, 'tree');
  mkdirSync(directory);
  for (const name of ['a', 'b']) writeFileSync(join(directory, name), name);
  await aws(['s3', 'sync', '--no-progress', directory, 's3://data/tenantA/cli/tree']);
  const stored = await rgw.ask('GET', '/data/tenantA/cli/tree/b');
  assert.deepEqual([stored.status, await stored.text()], [200, 'b']);
  await assert.rejects(
    aws(['s3', 'cp', file, 's3://data/tenantB/x']),
    /\(AccessDenied\) when calling the \w+ operation: .*\(Outrider: \w+.*\)/,
  );
  await assert.rejects(
    aws(['s3', 'ls', 's3://data/tenantA/cli/'], false),
    /credentials/,
    'control',
  );
});

/** rclone as it comes, told of an S3 that is of no known provider. */
const rclone = (...argv: readonly string[]) =>
  client('rclone', '--retries', '1', ...argv, {
    PATH: process.env['PATH'],
    HOME: home,
    RCLONE_CONFIG_O_TYPE: 's3',
    RCLONE_CONFIG_O_PROVIDER: 'Other',
    RCLONE_CONFIG_O_ENV_AUTH: 'true',
    RCLONE_CONFIG_O_ENDPOINT: `${door.url}/s3`,
    ...S3_ENV,
  });

test('F3: rclone copies, lists, synchronises and deletes, and nothing outside of what is granted', async () => {
  const tree = join(home, 'rclone');
  mkdirSync(join(tree, 'deep'), { recursive: true });
  const names = ['a b+c=ü.txt', 'deep/d', 'gone'];
  for (const name of names) writeFileSync(join(tree, name), name);
  const listed = async (of: string) => (await rclone('lsf', '-R', '--files-only', of)).split('\n');
  await rclone('copy', tree, 'O:work/work/tree');
  assert.deepEqual((await listed('O:work/work/tree')).toSorted(), names);
  rmSync(join(tree, 'gone'));
  await rclone('sync', tree, 'O:work/work/tree');
  assert.deepEqual((await listed('O:work/work/tree')).toSorted(), names.slice(0, 2));
  await rclone('check', '--download', tree, 'O:work/work/tree');
  await rclone('delete', 'O:work/work/tree');
  assert.deepEqual(await listed('O:work/work/tree'), ['']);
  for (const outside of ['O:work/tenantA', 'O:data/tenantB'])
    await assert.rejects(rclone('copy', tree, outside), /403|Forbidden/, outside);
});

test('F3: rclone copies at the server, a stand-in, what is granted alone, and sets a time by a copy onto itself', async () => {
  const name = 'a b+c=ü.txt';
  await rclone('copyto', `O:copies/work/${name}`, `O:copies/work/deep/${name}`);
  assert.equal(standIn.objects.get(`work/deep/${name}`), '1.5');
  await rclone('touch', '--timestamp', '2001-02-03T04:05:06', `O:copies/work/deep/${name}`);
  assert.equal(standIn.objects.get(`work/deep/${name}`), '981173106');
  const copy = (source: string) =>
    client(
      'curl',
      '-sS',
      '-X',
      'PUT',
      '-H',
      'content-length: 0',
      '-H',
      `x-amz-copy-source: ${source}`,
      '-o',
      '/dev/null',
      '-w',
      '%{http_code} %header{x-outrider-reason}',
      `${door.url}/s3/copies/work/taken`,
    );
  assert.equal(await copy('/copies/secret/k'), '403 s3_copy_source_forbidden');
  assert.equal(await copy('/data/work/k'), '403 s3_copy_source_forbidden', 'its name elsewhere');
  assert.ok(!standIn.objects.has('work/taken'));
  assert.match(await copy(`/copies/work/${encodeURIComponent(name)}`), /^200/, 'control');
});

test('F3: what boto3 is made of copies, and deletes many at once, within what is granted', async () => {
  const cli = process.env['OUTRIDER_AWS_CLI']; // whose own Python has it
  const python = cli === undefined ? 'python3' : join(dirname(cli), 'python3');
  const out = await client(python, join(CLIENTS, 's3_client.py'), {
    PATH: process.env['PATH'],
    HOME: home,
    ...S3_ENV,
    AWS_ENDPOINT_URL_S3: `${door.url}/s3`,
  });
  assert.deepEqual(JSON.parse(out), {
    head: 200,
    location: 200,
    list: ['work/a b&<c>', 'work/d'],
    uploads: 200,
    copy: 200,
    'copy from outside': 403,
    told: ['AccessDenied', 's3_copy_source_forbidden'],
    'copy of a version': 403,
    'delete outside': 403,
    left: ['work/a b&<c>', 'work/d'],
    deleted: ['work/a b&<c>', 'work/d'],
    gone: [],
  });
});

test('F3: the AWS SDK of JavaScript needs no more than that environment', async () => {
  const program = `
    const { createRequire } = require('node:module');
    const { GetObjectCommand, PutObjectCommand, S3Client } = createRequire(process.argv[1] + '/')('@aws-sdk/client-s3');
    (async () => {
      const client = new S3Client({});
      await client.send(new PutObjectCommand({ Bucket: 'data', Key: 'tenantA/told', Body: 'told' }));
      const { Body } = await client.send(new GetObjectCommand({ Bucket: 'data', Key: 'tenantA/told' }));
      console.log(await Body.transformToString());
    })();`;
  const env = { HOME: home, ...S3_ENV, AWS_ENDPOINT_URL_S3: `${door.url}/s3` };
  assert.equal(await client(process.execPath, '-e', program, PEERS, env), 'told');
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
