import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { request as requestPlain } from 'node:http';
import { type RequestOptions, request } from 'node:https';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryDirectory } from '#core/testing/directory';
import { makePki } from '#core/testing/pki';
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

const TARGET = '/http/api/v1';
const TOKEN = 'local-token-7c1f0a93d2'.repeat(2);

async function mesh(
  t: TestContext,
  config: Record<string, unknown>,
  more: readonly TestDocument[] = [],
) {
  const origin = await startOrigin(t);
  const started = await startMesh(t, {
    config,
    documents: [
      ROLE,
      ...more,
      BOUNDARY,
      egressPolicy([{ id: 'api', datasource: 'http/api' }]),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  return { origin, ...started };
}

function tokenFile(t: TestContext, mode = 0o600): string {
  const path = join(temporaryDirectory(t), 'token');
  writeFileSync(path, `${TOKEN}\n`);
  chmodSync(path, mode);
  return path;
}

const lastRequest = ({ records }: Mesh) => records().findLast(({ event }) => event === 'request');

test('F4 jwt: nobody calls without an execution token, with the local one neither', async (t) => {
  const started = await mesh(t, { tokenFile: tokenFile(t) });
  assert.equal((await started.ask(TARGET, { token: '' })).status, 401);
  assert.equal((await started.ask(TARGET, { token: TOKEN })).status, 401);
  assert.equal(started.origin.seen.length, 0);
  assert.equal((await started.ask(TARGET)).status, 200);
});

test('F4 token: whoever has the local token is the local principal; others are refused, execution tokens are as good as ever', async (t) => {
  const started = await mesh(t, { auth: 'token', tokenFile: tokenFile(t) });
  const wrong = ['', TOKEN.slice(1), `${TOKEN}x`, TOKEN.toUpperCase()];
  for (const token of wrong)
    assert.equal((await started.ask(TARGET, { token })).status, 401, token);
  assert.equal(started.origin.seen.length, 0);
  assert.equal((await started.ask(TARGET, { token: TOKEN })).status, 200);
  assert.equal(lastRequest(started)?.['subject'], 'local');
  assert.equal(lastRequest(started)?.['role'], 'analyst');
  assert.ok(!JSON.stringify(started.records()).includes(TOKEN));
  assert.equal((await started.ask(TARGET)).status, 200);
  const stale = await started.token({ startedAt: 1 });
  assert.equal((await started.ask(TARGET, { token: stale })).status, 401);
});

test('F4 token: a file that others may read keeps the proxy from starting', async (t) => {
  await assert.rejects(mesh(t, { auth: 'token', tokenFile: tokenFile(t, 0o644) }), {
    code: 'CONFIG_INVALID',
  });
});

test('F4 none: whoever sends no token is the local principal, and a token that is sent must still be right', async (t) => {
  const started = await mesh(t, { auth: 'none' });
  assert.equal((await started.ask(TARGET, { token: '' })).status, 200);
  assert.equal(lastRequest(started)?.['subject'], 'local');
  assert.equal(
    (await started.ask('/http/other/v1', { token: '' })).status,
    404,
    'the policy holds',
  );
  for (const token of ['nonsense', await started.token({ role: 'admin' })])
    assert.notEqual((await started.ask(TARGET, { token })).status, 200);
  assert.equal((await started.ask(TARGET)).status, 200);
});

test('F4: the local principal has the one role that names it; of several, or of none, nothing is let out', async (t) => {
  const second = { ...ROLE, metadata: { name: 'second' } };
  const several = await mesh(t, { auth: 'none' }, [second]);
  const got = await several.ask(TARGET, { token: '' });
  assert.equal(got.error.code, 'ROLE_AMBIGUOUS');
  assert.equal(several.origin.seen.length, 0);
});

/** One request over TCP, with the headers that are given and no others. */
function askTcp({ addresses: { tcp } }: Mesh, headers: Record<string, string>, method = 'GET') {
  assert.ok(tcp?.kind === 'tcp');
  const { port } = tcp;
  return askPlain({ host: '127.0.0.1', port, path: TARGET, method, headers, agent: false });
}

function askPlain(options: RequestOptions) {
  return new Promise<{ status: number | undefined; reason: unknown }>((resolve, reject) => {
    const sent = requestPlain(options);
    sent.on('error', reject);
    sent.on('response', (response) => {
      const reason = response.headers['x-outrider-reason'];
      response.resume().on('end', () => resolve({ status: response.statusCode, reason }));
    });
    sent.end();
  });
}

const OWN = { host: 'localhost' };
const PAGES: readonly (readonly [string, Record<string, string>, string])[] = [
  ['a page of another site', { ...OWN, origin: 'https://evil.example' }, 'header_forbidden'],
  ['a page without an origin', { ...OWN, origin: 'null' }, 'header_forbidden'],
  ['an image of a page', { ...OWN, 'sec-fetch-site': 'cross-site' }, 'header_forbidden'],
  ['a page under a name that leads here', { host: 'evil.example' }, 'host_mismatch'],
  ['such a page with the port', { host: 'evil.example:18081' }, 'host_mismatch'],
  ['a name that only begins so', { host: 'localhost.evil.example' }, 'host_mismatch'],
  ['a name that ends so', { host: 'evil-localhost' }, 'host_mismatch'],
  ['an address that only begins so', { host: '127.0.0.1.evil.example' }, 'host_mismatch'],
];

for (const auth of ['none', 'token'])
  test(`F4 ${auth}: a web page is no direct caller; programs of this machine are`, async (t) => {
    const started = await mesh(t, { auth, tcp: '127.0.0.1:0', tokenFile: tokenFile(t) });
    const sent = auth === 'token' ? { 'proxy-authorization': `Bearer ${TOKEN}` } : {};
    for (const [what, headers, reason] of PAGES)
      for (const method of ['GET', 'OPTIONS', 'POST']) {
        const { status, reason: said } = await askTcp(started, { ...headers, ...sent }, method);
        assert.deepEqual([status, said], [reason === 'host_mismatch' ? 421 : 403, reason], what);
      }
    assert.equal(started.origin.seen.length, 0);
    for (const host of ['localhost', 'LOCALHOST:1', '127.0.0.1:18081', '127.1.2.3', '[::1]:1'])
      assert.equal((await askTcp(started, { host, ...sent })).status, 200, host);
    const ofSocket = { host: 'proxy', origin: 'https://any.example' };
    const local = auth === 'token' ? TOKEN : '';
    const got = await started.ask(TARGET, { token: local, headers: ofSocket });
    assert.equal(got.status, 200, 'to a unix socket no page has a way');
  });

test('F4 none: an execution token is good beside an Origin, and forced out of this machine any name is', async (t) => {
  const started = await mesh(t, { auth: 'none', tcp: '127.0.0.1:0' });
  const token = { 'proxy-authorization': `Bearer ${await started.token()}` };
  const page = { host: 'evil.example', origin: 'https://any.example' };
  assert.equal((await askTcp(started, { ...page, ...token })).status, 200);
  const forced = await mesh(t, { auth: 'none', tcp: '0.0.0.0:0', insecure: true });
  assert.equal((await askTcp(forced, { host: 'machine.example' })).status, 200);
  assert.equal((await askTcp(forced, { ...page, host: 'machine.example' })).status, 403);
});

/** An address of this machine that is not loopback, where it has one. */
const outside = Object.values(networkInterfaces())
  .flat()
  .find((one) => one && !one.internal && one.family === 'IPv4')?.address;

test('F4 none refuses to start where other machines can reach it, unless that is forced', async (t) => {
  for (const auth of ['none', 'token'])
    await assert.rejects(
      mesh(t, { auth, tcp: '0.0.0.0:0', tokenFile: tokenFile(t) }),
      (error: Error) =>
        'code' in error && error.code === 'CONFIG_INVALID' && /proxy\.auth/.test(error.message),
    );
  await mesh(t, { auth: 'none', tcp: '127.0.0.1:0' });
  const forced = await mesh(t, { auth: 'none', tcp: '0.0.0.0:0', insecure: true });
  assert.ok(forced.addresses.tcp?.kind === 'tcp');
  const answer = await fetch(`http://127.0.0.1:${forced.addresses.tcp.port}${TARGET}`);
  assert.equal(answer.status, 200);
});

test('tokens in clear do not leave the machine, unless that is forced', async (t) => {
  await assert.rejects(mesh(t, { tcp: '0.0.0.0:0' }), { code: 'CONFIG_INVALID' });
  await mesh(t, { tcp: '0.0.0.0:0', insecure: true });
});

/** An authority with the certificate of a proxy and those of two sidecars, and one of another. */
function pki(t: TestContext) {
  const { path, authority, issue } = makePki(t);
  authority('other-ca');
  for (const name of ['proxy', 'one', 'two']) issue(name);
  issue('stranger', 'other-ca');
  const client = (name: string) => ({
    cert: readFileSync(path(`${name}.pem`)),
    key: readFileSync(path(`${name}.key`)),
  });
  return {
    path,
    client,
    thumbprint: (name: string) => {
      const { raw } = new X509Certificate(readFileSync(path(`${name}.pem`)));
      return createHash('sha256').update(raw).digest('base64url');
    },
    serverTls: { cert: path('proxy.pem'), key: path('proxy.key'), clientCa: path('ca.pem') },
    ca: readFileSync(path('ca.pem')),
  };
}

/** One request over TLS; the code of the error where there is no answer. */
function askOver(port: number, options: RequestOptions, token: string) {
  return new Promise<{ status: number | undefined; reason: unknown }>((resolve) => {
    const sent = request({
      host: '127.0.0.1',
      port,
      path: TARGET,
      agent: false,
      headers: { 'proxy-authorization': `Bearer ${token}` },
      ...options,
    });
    sent.on('error', (error) =>
      resolve({ status: undefined, reason: 'code' in error ? error.code : error.message }),
    );
    sent.on('response', (response) => {
      response.resume();
      response.on('end', () =>
        resolve({ status: response.statusCode, reason: response.headers['x-outrider-reason'] }),
      );
    });
    sent.end();
  });
}

test('J025: between hosts a token is good over the certificate that it is bound to, and over no other', async (t) => {
  const { client, thumbprint, serverTls, ca } = pki(t);
  const started = await mesh(t, { serverTls, tcp: `${outside ?? '127.0.0.1'}:0` });
  assert.ok(started.addresses.tcp?.kind === 'tcp');
  const { host, port } = started.addresses.tcp;
  const ask = (name: string, token: string) =>
    askOver(port, { ...client(name), ca, host, checkServerIdentity: () => undefined }, token);
  const ofOne = await started.token({ certificateThumbprint: thumbprint('one') });
  const unbound = await started.token();

  assert.deepEqual(await ask('one', ofOne), { status: 200, reason: undefined });
  assert.equal(started.origin.seen.length, 1);
  const mismatch = { status: 401, reason: 'jwt_cnf_mismatch' };
  assert.deepEqual(
    await ask('two', ofOne),
    mismatch,
    'stolen by another sidecar, also when cached',
  );
  assert.deepEqual(await ask('one', unbound), mismatch, 'bound to nothing');
  assert.equal(
    (await started.ask(TARGET, { token: ofOne })).headers['x-outrider-reason'],
    'jwt_cnf_mismatch',
  );
  assert.equal((await started.ask(TARGET, { token: unbound })).status, 200, 'on this machine');
  for (const options of [client('stranger'), {}]) {
    const got = await askOver(
      port,
      { ...options, ca, host, checkServerIdentity: () => undefined },
      ofOne,
    );
    assert.equal(got.status, undefined, 'no certificate of ours: no answer at all');
  }
  assert.equal(started.origin.seen.length, 2);
  assert.deepEqual(await ask('one', ofOne), { status: 200, reason: undefined });
});

test('mutual TLS is configured whole or not at all', async (t) => {
  const { serverTls } = pki(t);
  const { clientCa: _gone, ...half } = serverTls;
  await assert.rejects(mesh(t, { serverTls: half, tcp: '127.0.0.1:0' }), {
    code: 'CONFIG_INVALID',
  });
  await assert.rejects(
    mesh(t, { serverTls: { ...serverTls, key: '/nonexistent' }, tcp: '127.0.0.1:0' }),
    {
      code: 'CONFIG_INVALID',
    },
  );
});
