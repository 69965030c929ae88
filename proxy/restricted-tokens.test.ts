import assert from 'node:assert/strict';
import { createPrivateKey, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createDpopKey, dpopProof } from '#core/testing/dpop-proof';
import { postForm } from '#core/testing/post-form';
import { generateSigningKey, type SigningKey } from '#core/tokens';
import { startIssuer } from './issuers/testing.ts';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  startCorporateProxy,
  startDns,
  startMesh,
  startOrigin,
} from './testing.ts';
import { EXCHANGE_ISSUER } from './token-exchange.ts';

// Tokens that ask for more than to be shown: for one request alone, or bound to a key whose owner must prove to have it.

const AUDIENCE = 'https://proxy.example';
const TARGET = '/http/api/v1';
const URI = `http://127.0.0.1${TARGET}`;
const TOKEN_URI = 'http://localhost/.outrider/token';

/** A proxy whose analysts are the users of an issuer, with a datasource, and a host that is reached through another proxy. */
async function mesh(t: TestContext, config: Readonly<Record<string, unknown>> = {}) {
  const issuer = await startIssuer(t, AUDIENCE);
  const origin = await startOrigin(t);
  const dns = await startDns(t, { 'plain.example': ['203.0.113.7'] });
  const { proxy } = await startCorporateProxy(t, origin.port);
  const started = await startMesh(t, {
    config: {
      issuers: [{ issuer: issuer.url, audience: AUDIENCE }],
      dns: { servers: [dns.address] },
      upstreamProxy: `http://127.0.0.1:${proxy.port}`,
      ...config,
    },
    documents: [
      {
        kind: 'Role',
        metadata: { name: 'analyst' },
        spec: {
          members: [{ issuer: issuer.url, group: 'data' }, { issuer: 'outrider:local' }],
          sandbox: { timeout: '2m' },
        },
      },
      BOUNDARY,
      egressPolicy([
        { id: 'api', datasource: 'http/api' },
        {
          id: 'host',
          hosts: ['api.example'],
          methods: ['GET'],
          paths: 'any',
          protocols: ['http1', 'http2'],
        },
        {
          id: 'plain',
          hosts: ['plain.example'],
          scheme: 'http',
          methods: ['GET'],
          paths: 'any',
        },
        { id: 'tunnel', hosts: ['tls.example'], protocols: ['tunnel'] },
      ]),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  /** Exchanges an access token of alice's. */
  const exchange = async (form: Record<string, string>, headers: Record<string, string> = {}) => {
    const subject = {
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      subject_token: await issuer.token(),
    };
    return postForm(
      pathOf(started),
      '/.outrider/token',
      new URLSearchParams({ ...subject, ...form }),
      headers,
    );
  };
  return { issuer, origin, dns, started, exchange };
}

function pathOf({ addresses: { listen } }: Mesh): string {
  assert.ok(listen.kind === 'unix');
  return listen.path;
}

/** The status of a request with a token, and the reason where it is refused. */
async function shown(started: Mesh, token: string, target = TARGET): Promise<string> {
  const { status, headers } = await started.ask(target, { token });
  return [status, headers['x-outrider-reason']].filter(Boolean).join(' ');
}

const ONCE = { once: 'true' };
const tokenOf = ({ status, body }: Awaited<ReturnType<typeof postForm>>): string => {
  assert.equal(status, 200, JSON.stringify(body));
  return String(body['access_token']);
};

test('J024 F4: a token for one request is good for one, whatever came between, and its second use reaches nobody', async (t) => {
  const { origin, started, exchange } = await mesh(t);
  const token = tokenOf(await exchange(ONCE));
  assert.equal(await shown(started, token), '200');
  assert.equal(origin.seen.length, 1);
  assert.equal(await shown(started, token), '401 jwt_jti_replay');
  assert.equal(await shown(started, await started.token()), '200', 'between them another');
  assert.equal(await shown(started, token), '401 jwt_jti_replay');
  assert.equal(origin.seen.length, 2);
  assert.equal(started.records().at(-1)?.['reason'], 'jwt_jti_replay');
  const many = tokenOf(await exchange({}));
  assert.deepEqual(
    [await shown(started, many), await shown(started, many)],
    ['200', '200'],
    'control: without `once` it is for any number',
  );
});

test('J024: of uses at the same time one is the first, over whichever connection they come', async (t) => {
  const { origin, started, exchange } = await mesh(t);
  const token = tokenOf(await exchange(ONCE));
  const uses = await Promise.all(Array.from({ length: 8 }, () => shown(started, token)));
  assert.equal(uses.filter((use) => use === '200').length, 1);
  assert.equal(uses.filter((use) => use === '401 jwt_jti_replay').length, 7);
  assert.equal(origin.seen.length, 1);
});

test('J024: what is refused has used the token up, too', async (t) => {
  const { started, exchange } = await mesh(t);
  const token = tokenOf(await exchange(ONCE));
  assert.match(await shown(started, token, '/http/none/v1'), /^404 alias_unknown/);
  assert.equal(await shown(started, token), '401 jwt_jti_replay');
});

test('J024: a tunnel is a request', async (t) => {
  const { started, exchange, dns } = await mesh(t);
  const token = tokenOf(await exchange(ONCE));
  const tunnel = () =>
    new Promise<string>((resolve) => {
      const socket = connect(pathOf(started));
      let text = '';
      socket.on('data', (piece) => (text += piece.toString()));
      socket.once('close', () => resolve(/x-outrider-reason: (\S+)/.exec(text)?.[1] ?? text));
      socket.write(
        `CONNECT tls.example:443 HTTP/1.1\r\nHost: tls.example:443\r\nProxy-Authorization: Bearer ${token}\r\n\r\n`,
      );
    });
  assert.equal(await tunnel(), 'dns_failed', 'it was let through as far as the name');
  const asked = dns.asked.length;
  assert.equal(await tunnel(), 'jwt_jti_replay');
  assert.equal(dns.asked.length, asked, 'nobody was asked for the name again');
});

/** The key of exchanges, as several proxies share it, in a file. */
function sharedKey(t: TestContext): { key: SigningKey; config: Record<string, unknown> } {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-key-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const key = generateSigningKey(EXCHANGE_ISSUER);
  const path = join(directory, 'exchange.json');
  writeFileSync(path, JSON.stringify(key), { mode: 0o600 });
  return { key, config: { exchange: { signingKey: path } } };
}

test('J024: another text with the jti of a token that was used is refused, and so is the other way round', async (t) => {
  const { key, config } = sharedKey(t);
  const { origin, started, exchange } = await mesh(t, config);
  const secret = createPrivateKey({ key: key.jwk, format: 'jwk' });
  const changed = (token: string, more: Record<string, unknown>): string => {
    const [header, payload = ''] = token.split('.');
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const text = Buffer.from(JSON.stringify({ ...claims, ...more })).toString('base64url');
    const input = `${header}.${text}`;
    return `${input}.${sign(null, Buffer.from(input), secret).toString('base64url')}`;
  };
  const one = tokenOf(await exchange(ONCE));
  assert.equal(await shown(started, one), '200');
  assert.equal(await shown(started, changed(one, { request: 'r' })), '401 jwt_jti_replay');
  const two = tokenOf(await exchange(ONCE));
  assert.equal(await shown(started, changed(two, { request: 'r' })), '200');
  assert.equal(await shown(started, two), '401 jwt_jti_replay');
  const jti = 'of nobody yet';
  assert.equal(await shown(started, changed(two, { jti })), '200', 'control: with another jti');
  assert.equal(origin.seen.length, 3);
});

test('J024: a token for one request is good where it was issued alone: at no other proxy, nor at this one when it has started again', async (t) => {
  const { origin, started, exchange } = await mesh(t, sharedKey(t).config);
  const elsewhere = await started.token({ once: 'another proxy' });
  assert.equal(await shown(started, elsewhere), '401 jwt_jti_replay');
  const [once, many] = [tokenOf(await exchange(ONCE)), tokenOf(await exchange({}))];
  await started.restart();
  assert.equal(await shown(started, once), '401 jwt_jti_replay');
  assert.equal(origin.seen.length, 0);
  assert.equal(
    await shown(started, many),
    '200',
    'control: any other token of the same key is good',
  );
  assert.equal(await shown(started, tokenOf(await exchange(ONCE))), '200', 'control: a new one');
});

test('J024: a token for one request delivers no records', async (t) => {
  const { started, exchange } = await mesh(t);
  const token = tokenOf(await exchange({ ...ONCE, sandbox: 'sbx-once' }));
  const headers = { 'content-type': 'application/x-ndjson' };
  const deliver = (by: string) =>
    started.ask('/.outrider/audit', { method: 'POST', headers, token: by, body: '' });
  assert.equal((await deliver(token)).status, 401);
  const plain = await deliver(tokenOf(await exchange({ sandbox: 'sbx-once' })));
  assert.notEqual(plain.status, 401, 'control');
  assert.equal(await shown(started, token), '200', 'control: it is not used up by that');
});

test('a parameter `once` that says anything but true is 400', async (t) => {
  const { exchange } = await mesh(t);
  const { status, body } = await exchange({ once: 'yes' });
  assert.equal(status, 400);
  assert.match(String(body['error_description']), /once is true or absent/);
});

/** Has an access token exchanged for one that is bound to a new key. */
async function bound(
  { exchange }: Awaited<ReturnType<typeof mesh>>,
  form: Record<string, string> = {},
) {
  const key = createDpopKey();
  const proof = dpopProof(key, { htm: 'POST', htu: TOKEN_URI });
  const got = await exchange(form, { dpop: proof });
  const token = tokenOf(got);
  const headersFor = (says: Parameters<typeof dpopProof>[1], scheme = 'DPoP') => ({
    'proxy-authorization': `${scheme} ${token}`,
    dpop: dpopProof(key, { token, ...says }),
  });
  return { key, got, token, headersFor };
}

test('F4 dpop: an exchange with a proof gives a token that is bound to its key (RFC 9449, 5), good with a new proof for each request', async (t) => {
  const built = await mesh(t);
  const { started, origin } = built;
  const { got, headersFor, token } = await bound(built);
  assert.equal(got.body['token_type'], 'DPoP');
  const right = { htm: 'GET', htu: URI };
  for (const at of [0, 1]) {
    const { status, body } = await started.ask(TARGET, { token: '', headers: headersFor(right) });
    assert.equal(status, 200, body);
    assert.equal(origin.seen[at]?.headers['dpop'], undefined, 'the proof goes no further');
  }
  for (const [what, headers] of [
    ['no proof', { 'proxy-authorization': `DPoP ${token}` }],
    ['as a bearer’s, without a proof', { 'proxy-authorization': `Bearer ${token}` }],
    ['as a bearer’s, with a proof', headersFor(right, 'Bearer')],
    ['for another method', headersFor({ ...right, htm: 'POST' })],
    ['for another target', headersFor({ ...right, htu: `${URI}/x` })],
    [
      'of another key',
      { ...headersFor(right), dpop: dpopProof(createDpopKey(), { ...right, token }) },
    ],
  ] as const) {
    const { status, headers: answered } = await started.ask(TARGET, { token: '', headers });
    assert.equal(status, 401, what);
    assert.equal(answered['x-outrider-reason'], 'jwt_dpop_mismatch', what);
  }
  assert.equal(origin.seen.length, 2);
});

test('F4 dpop: no host gets the proof of a caller, and the program’s own goes on where the caller has none', async (t) => {
  const built = await mesh(t);
  const { started, origin } = built;
  const { headersFor } = await bound(built);
  const url = 'http://plain.example/v1';
  const ours = headersFor({ htm: 'GET', htu: url });
  const got = await started.ask(url, { token: '', headers: ours });
  assert.deepEqual([got.status, origin.seen[0]?.headers['dpop']], [200, undefined], got.body);
  await started.ask(url, { headers: { dpop: 'of.the.program' } });
  assert.equal(origin.seen[1]?.headers['dpop'], 'of.the.program', 'control');
});

test('J027 F4: a proof that comes again is refused, and reaches nobody', async (t) => {
  const built = await mesh(t);
  const { started, origin } = built;
  const { headersFor } = await bound(built);
  const headers = headersFor({ htm: 'GET', htu: URI });
  const send = () => started.ask(TARGET, { token: '', headers });
  assert.equal((await send()).status, 200);
  const again = await send();
  assert.deepEqual([again.status, again.headers['x-outrider-reason']], [401, 'jwt_dpop_replay']);
  assert.equal(origin.seen.length, 1);
  assert.equal(started.records().at(-1)?.['reason'], 'jwt_dpop_replay');
  const fresh = headersFor({ htm: 'GET', htu: URI });
  assert.equal((await started.ask(TARGET, { token: '', headers: fresh })).status, 200, 'control');
});

test('F4 dpop: a proof for an exchange is good once, and one that is wrong gets no token', async (t) => {
  const { exchange, started } = await mesh(t);
  const key = createDpopKey();
  const proof = dpopProof(key, { htm: 'POST', htu: TOKEN_URI });
  assert.equal((await exchange({}, { dpop: proof })).status, 200, 'control');
  for (const [dpop, reason] of [
    [proof, 'jwt_dpop_replay'],
    [dpopProof(key, { htm: 'GET', htu: TOKEN_URI }), 'jwt_dpop_mismatch'],
    ['nonsense', 'jwt_dpop_mismatch'],
  ] as const) {
    const { status, body, headers } = await exchange({}, { dpop });
    assert.deepEqual([status, body['error']], [400, 'invalid_dpop_proof']);
    assert.equal(headers['x-outrider-reason'], reason);
    assert.equal(body['access_token'], undefined);
    assert.equal(started.records().at(-1)?.['reason'], reason);
  }
});

test('F4 dpop: an access token that is bound to a key or a certificate is exchanged for whoever has it alone', async (t) => {
  const { issuer, exchange } = await mesh(t);
  const key = createDpopKey();
  const says = { htm: 'POST', htu: TOKEN_URI };
  const outcome = async (cnf: unknown, by?: typeof key) => {
    const headers = by && { dpop: dpopProof(by, says) };
    const got = await exchange({ subject_token: await issuer.token({ cnf }) }, headers);
    return [got.status, got.headers['x-outrider-reason'] ?? got.body['token_type']];
  };
  const jkt = key.thumbprint;
  assert.deepEqual(await outcome({ jkt }), [400, 'jwt_dpop_mismatch'], 'as a bearer’s');
  assert.deepEqual(await outcome({ jkt }, createDpopKey()), [400, 'jwt_dpop_mismatch']);
  for (const cnf of [{ 'x5t#S256': 'A'.repeat(43) }, { jwk: {} }, 'x'])
    assert.deepEqual(await outcome(cnf, key), [400, 'jwt_cnf_mismatch'], JSON.stringify(cnf));
  assert.deepEqual(await outcome({ jkt }, key), [200, 'DPoP'], 'control');
  assert.deepEqual(await outcome(undefined), [200, 'Bearer'], 'control: one that is bound to none');
});

test('F4 dpop: who lacks the key cannot use up a token for one request', async (t) => {
  const built = await mesh(t);
  const { started } = built;
  const { headersFor, token } = await bound(built, ONCE);
  const right = { htm: 'GET', htu: URI };
  const send = async (headers: Record<string, string>) => {
    const got = await started.ask(TARGET, { token: '', headers });
    return [got.status, got.headers['x-outrider-reason']];
  };
  const stolen = { ...headersFor(right), dpop: dpopProof(createDpopKey(), { ...right, token }) };
  assert.deepEqual(await send(stolen), [401, 'jwt_dpop_mismatch']);
  assert.deepEqual(await send(headersFor(right)), [200, undefined]);
  assert.deepEqual(await send(headersFor(right)), [401, 'jwt_jti_replay']);
});

test('F4 dpop: a token that is bound to no key is none of DPoP', async (t) => {
  const { started, origin } = await mesh(t);
  const token = await started.token();
  const key = createDpopKey();
  const headers = {
    'proxy-authorization': `DPoP ${token}`,
    dpop: dpopProof(key, { htm: 'GET', htu: URI, token }),
  };
  const got = await started.ask(TARGET, { token: '', headers });
  assert.deepEqual([got.status, got.headers['x-outrider-reason']], [401, 'jwt_dpop_mismatch']);
  assert.equal(origin.seen.length, 0);
  assert.equal(await shown(started, token), '200', 'control');
});

test('F4 dpop: the proof of a request over HTTP/2 is for its scheme, authority and path', async (t) => {
  const built = await mesh(t);
  const { headersFor } = await bound(built);
  const session = connectHttp2('http://proxy', {
    createConnection: () => connect(pathOf(built.started)),
  });
  t.after(() => session.destroy());
  const ask = (htu: string) =>
    new Promise<string>((resolve, reject) => {
      const stream = session.request({
        ':method': 'POST',
        ':scheme': 'https',
        ':authority': 'api.example',
        ':path': '/pkg.Service/Method',
        'content-type': 'application/json',
        ...headersFor({ htm: 'POST', htu }),
      });
      stream.on('error', reject).on('response', (headers) => {
        stream.resume();
        resolve(String(headers['x-outrider-reason']));
      });
      stream.end();
    });
  assert.equal(await ask('https://api.example/other'), 'jwt_dpop_mismatch');
  assert.equal(await ask('https://api.example/pkg.Service/Method'), 'method_not_allowed');
});
