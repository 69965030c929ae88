import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { config } from './config.ts';

function filesOf(t: TestContext, ...texts: readonly string[]): string[] {
  const root = mkdtempSync(join(tmpdir(), 'outrider-config-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  return texts.map((text, index) => {
    const path = join(root, `${index}.yaml`);
    writeFileSync(path, text);
    return path;
  });
}

async function run(argv: readonly string[], env: Record<string, string> = {}) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const code = await config(argv, { HOME: '/nowhere', ...env }, out, err);
  return { code, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}

test('a file in order is said to be, and everything wrong with another at once', async (t) => {
  const [good = '', bad = ''] = filesOf(
    t,
    'gateway: {listen: "127.0.0.1:1", maxBody: "${SIZE:-1MiB}"}\nserver: {maxBody: 2MiB}\n',
    'gateway: {lisen: x, maxBody: much}\nserver: {maxBody: 1}\nproxi: {}\nrunner: {poolSize: -1}\n',
  );
  assert.deepEqual(await run(['check', good]), {
    code: 0,
    out: `${good}: nothing wrong\n`,
    err: '',
  });
  const { code, err } = await run(['check', bad]);
  assert.equal(code, 1);
  for (const problem of [
    /gateway\.lisen.*did you mean/,
    /gateway\.maxBody/,
    /"proxi"/,
    /runner\.poolSize/,
  ])
    assert.match(err, problem);
  assert.equal((await run(['check', good], { SIZE: 'much' })).code, 1, 'as it would be read here');
});

const OPEN = 'listen: "0.0.0.0:1", allowedHosts: [mcp.example]';
const IDP = '{issuer: "https://idp.example", audience: a}';
const CANNOT_START = [
  ['gateway: {servers: []}', /gateway\.servers/],
  ['gateway: {listen: "0.0.0.0:1"}', /gateway\.allowedHosts/],
  [`gateway: {insecure: true, ${OPEN}}`, /gateway\.insecure/],
  ['gateway: {allowedHosts: ["http://localhost"]}', /gateway\.allowedHosts/],
  ['gateway: {allowedOrigins: [localhost]}', /gateway\.allowedOrigins/],
  ['gateway: {recoveryDirectory: /a, recoveryRedis: "redis://b"}', /gateway\.recoveryRedis/],
  ['gateway: {recoveryRedis: "http://b"}', /gateway\.recoveryRedis/],
  ['gateway: {serversDraining: ["http://b:1/mcp"]}', /gateway\.serversDraining/],
  ['gateway: {issuers: [{issuer: "http://idp.example", audience: a}]}', /https URL/],
  ['gateway: {issuers: [{issuer: i, audience: a, jwks: "http://idp.example/k"}]}', /https URL/],
  [
    'gateway: {issuers: [{issuer: i, audience: a, introspection: "https://idp.example/i"}]}',
    /introspectionClient/,
  ],
  ['server: {runner: []}', /server\.runner/],
  ['runner: {tcp: "0.0.0.0:1"}', /runner\.tcp/],
  ['runner: {exchange: {tokenFile: /t}, proxyTls: {cert: /c}}', /runner\.proxyTls/],
  ['sidecar: {listen: "127.0.0.1:1"}', /sidecar\.listen/],
  ['sidecar: {proxyTls: {cert: /c}}', /sidecar\.proxyTls/],
  ['proxy: {tcp: "0.0.0.0:1"}', /proxy\.serverTls/],
  ['proxy: {dns: {servers: [ns.example]}}', /proxy\.dns\.servers.* item 1: .*IP address/],
  ['proxy: {issuers: [{issuer: "http://idp.example", audience: a}]}', /https URL/],
  ['runner: {backends: []}', /runner\.backends/],
  ['server: {maxBody: 0}', /server\.maxBody/],
] as const;

/** What would start, and let nobody in, keep nothing or never end. */
const CANNOT_WORK = [
  [`gateway: {issuers: [${IDP}, ${IDP}]}`, /gateway\.issuers: .* twice/],
  [`proxy: {issuers: [${IDP}, ${IDP}]}`, /proxy\.issuers: .* twice/],
  ['gateway: {issuers: [{issuer: "https://a", audience: a, jwksMaxAge: 0s}]}', /jwksMaxAge/],
  ['gateway: {issuers: [{issuer: "https://a", audience: a, jwksMaxAge: 4s}]}', /jwksCooldown/],
  ['proxy: {issuers: [{issuer: "https://a", audience: a, jwksCooldown: 0s}]}', /jwksCooldown/],
  ['gateway: {auditMaxBytes: 0}', /gateway\.auditMaxBytes/],
  ['runner: {auditMaxBytes: 0}', /runner\.auditMaxBytes/],
  ['proxy: {audit: {maxBytes: 0}}', /proxy\.audit\.maxBytes/],
  ['proxy: {connectTimeout: 0s}', /proxy\.connectTimeout/],
  ['proxy: {dns: {timeout: 0s}}', /proxy\.dns\.timeout/],
  ['sidecar: {headerTimeout: 0s}', /sidecar\.headerTimeout/],
  ['sidecar: {idleTimeout: 0s}', /sidecar\.idleTimeout/],
  ['sidecar: {headerBytes: 0}', /sidecar\.headerBytes/],
] as const;

for (const [text, problem] of CANNOT_START)
  test(`what no part could start with is wrong: ${text}`, async (t) => {
    const [file = ''] = filesOf(t, `${text}\n`);
    const { code, err } = await run(['check', file]);
    assert.equal(code, 1);
    assert.match(err, problem);
  });

for (const [text, problem] of CANNOT_WORK)
  test(`what could not do its work is wrong: ${text}`, async (t) => {
    const [file = ''] = filesOf(t, `${text}\n`);
    const { code, err } = await run(['check', file]);
    assert.equal(code, 1);
    assert.match(err, problem);
  });

const SECRET = 'QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY=';
const PLACES = [
  ['limits: {redisPassword: X}', 'file:redis', /proxy\.limits\.redisPassword/],
  ['upstreamProxyCredential: X', 'store:main:PROXY', /proxy\.upstreamProxyCredential/],
  ['secretStore: {key: X}', 'env:STORE_KEY', /proxy\.secretStore\.key/],
] as const;
for (const [text, place, problem] of PLACES)
  test(`a secret in the place of where it is, is wrong, and not repeated: ${text}`, async (t) => {
    const [bad = '', good = ''] = [SECRET, place].flatMap((value) =>
      filesOf(t, `proxy: {${text.replace('X', `"${value}"`)}}\n`),
    );
    const { code, err } = await run(['check', bad]);
    assert.equal(code, 1);
    assert.match(err, problem);
    assert.ok(!err.includes(SECRET), err);
    assert.equal((await run(['check', good])).code, 0, 'control');
  });

test('a password in a URL is wrong, however the rest of it is written, and not repeated', async (t) => {
  for (const scheme of ['http', 'htp', '']) {
    const [file = ''] = filesOf(t, `gateway: {servers: ["${scheme}://user:${SECRET}@h/mcp"]}\n`);
    const { code, err } = await run(['check', file]);
    assert.equal(code, 1);
    assert.match(err, /gateway\.servers .*without a user name and a password/);
    assert.ok(!err.includes(SECRET), err);
  }
  const [good = ''] = filesOf(t, 'gateway: {servers: ["http://h/@a/mcp?as=a@b"]}\n');
  assert.equal((await run(['check', good])).code, 0, 'control');
});

test('what cannot start is told of all parts and keys at once; what can is not wrong: control', async (t) => {
  const [bad = '', good = ''] = filesOf(
    t,
    `gateway: {insecure: true, servers: [], ${OPEN}}\nsidecar: {listen: "127.0.0.1:1"}\n`,
    `gateway: {${OPEN}, servers: ["http://a:1/mcp", "http://b:1/mcp"], serversDraining: ["http://b:1/mcp"], recoveryRedis: "redis://c", issuers: [${IDP}]}\nproxy: {dns: {servers: ["::1", "[::1]:53", 10.0.0.53, "10.0.0.53:53"]}, issuers: [${IDP}]}\n`,
  );
  const { err } = await run(['check', bad]);
  for (const problem of [/gateway\.insecure/, /gateway\.servers/, /sidecar\.listen/])
    assert.match(err, problem);
  assert.equal((await run(['check', good])).code, 0);
});

test('two files are told apart by their keys, and by what can change while it runs', async (t) => {
  const [old = '', next = '', same = '', foreign = ''] = filesOf(
    t,
    'gateway: {servers: ["http://a:1/mcp"], maxBody: 1MiB}\n',
    'gateway: {servers: ["http://b:1/mcp"], maxBody: 2MiB}\n',
    'gateway:\n  maxBody: 1048576\n  servers: [http://a:1/mcp]\n',
    'gateway: {servers: ["http://b:1/mcp"], serversAre: foreign, maxBody: 1MiB}\n',
  );
  const { code, out } = await run(['diff', old, next]);
  assert.equal(code, 1);
  assert.equal(
    out,
    'gateway.servers: ["http://a:1/mcp"] -> ["http://b:1/mcp"] (taken over while it runs)\n' +
      'gateway.maxBody: 1048576 -> 2097152 (needs a restart)\n',
  );
  assert.equal(
    (await run(['diff', old, foreign])).out,
    'gateway.servers: ["http://a:1/mcp"] -> ["http://b:1/mcp"] (needs a restart)\n' +
      'gateway.serversAre: "ours" -> "foreign" (needs a restart)\n',
  );
  assert.deepEqual(await run(['diff', old, same]), { code: 0, out: '', err: '' });
});

test('wrong usage is 2, a missing file 1', async (t) => {
  const [file = ''] = filesOf(t, '');
  for (const argv of [[], ['check'], ['diff', file], ['check', file, file], ['chek', file]])
    assert.equal((await run(argv)).code, 2, argv.join(' '));
  const missing = await run(['check', '/does/not/exist']);
  assert.equal(missing.code, 1);
  assert.match(missing.err, /\/does\/not\/exist cannot be read \(ENOENT\)/);
  assert.match((await run(['check', '/'])).err, /\(EISDIR\)/);
  assert.equal((await run(['--help'])).code, 0);
});
