import assert from 'node:assert/strict';
import { createServer } from 'node:https';
import { type TestContext, test } from 'node:test';
import {
  BOUNDARY,
  CERTIFICATE,
  CERTIFICATE_KEY,
  datasource,
  egressPolicy,
  ROLE,
  startMesh,
  startOrigin,
} from '../testing.ts';

// Ways into an API besides a header (forward.test.ts has those): a parameter, a token that the proxy gets for itself, a client
// certificate, authorities of the datasource's own.

const SECRET = 'client+secret/of=ours';

async function meshTo(
  t: TestContext,
  endpoint: string,
  spec: Readonly<Record<string, unknown>>,
  secrets: Readonly<Record<string, string>> = { secret: `${SECRET}\n` },
) {
  return startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        { id: 'api', datasource: 'http/api', limits: { rate: '6000/min', burst: 100 } },
      ]),
      datasource('http', 'api', endpoint, spec),
    ],
    secrets,
  });
}

const QUERY = { auth: { type: 'query', name: 'api_key' }, secretRef: 'file:secret' };

test('a credential that is a parameter stands behind the others, once, and does not come back', async (t) => {
  const origin = await startOrigin(t, (seen, response) => void response.end(seen.url));
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}/base`, QUERY);
  const got = await ask('/http/api/items?a=1', { headers: { range: 'bytes=0-1' } });
  assert.equal(origin.seen[0]?.url, `/base/items?a=1&api_key=${encodeURIComponent(SECRET)}`);
  assert.equal(origin.seen[0]?.headers.range, undefined);
  assert.match(got.body, /^\/base\/items\?a=1&api_key=\*+$/);
  await ask('/http/api/items');
  assert.equal(origin.seen[1]?.url, `/base/items?api_key=${encodeURIComponent(SECRET)}`);
});

for (const query of ['api_key=theirs', 'a=1&API_KEY=theirs', 'api%5Fkey=theirs'])
  test(`the parameter of the credential is not the caller's to give: ${query}`, async (t) => {
    const origin = await startOrigin(t);
    const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`, QUERY);
    const got = await ask(`/http/api/items?${query}`);
    assert.equal(got.status, 403);
    assert.equal(got.error.reason, 'query_not_allowed');
    assert.equal(origin.seen.length, 0);
  });

interface TokenServer {
  readonly answer: { status: number; body: unknown; wait?: Promise<void> };
  readonly port: number;
  readonly asked: { body: string; authorization: string | undefined }[];
}

/** A token endpoint that answers what `answer` says; `{n}` in a token is the number of the request. */
async function startTokens(t: TestContext): Promise<TokenServer> {
  const asked: TokenServer['asked'] = [];
  const answer: TokenServer['answer'] = {
    status: 200,
    body: { access_token: 'token-{n}-of-the-api', token_type: 'Bearer', expires_in: 3600 },
  };
  const origin = await startOrigin(t, (seen, response) => {
    asked.push({ body: seen.body, authorization: seen.headers.authorization });
    const { status, body, wait } = answer;
    response.writeHead(status, { 'content-type': 'application/json' });
    const text = (typeof body === 'string' ? body : JSON.stringify(body)).replace(
      '{n}',
      String(asked.length),
    );
    void (wait ?? Promise.resolve()).then(() => response.end(text));
  });
  return { answer, asked, port: origin.port };
}

const oauth2 = (port: number, more: object = {}) => ({
  auth: {
    type: 'oauth2',
    tokenUrl: `http://127.0.0.1:${port}/token`,
    clientId: 'outrider client'.replace(' ', '+'),
    ...more,
  },
  secretRef: 'file:secret',
});

test('a token is got with the client credentials grant, once for all who ask at once, and serves again', async (t) => {
  const tokens = await startTokens(t);
  const origin = await startOrigin(t, (seen, response) => {
    response.end(`you sent ${seen.headers.authorization}`);
  });
  const { ask } = await meshTo(
    t,
    `http://127.0.0.1:${origin.port}`,
    oauth2(tokens.port, { scopes: ['read', 'list'], audience: 'api' }),
  );
  const answers = await Promise.all(Array.from({ length: 8 }, () => ask('/http/api/items')));
  for (const { status, body } of answers) {
    assert.equal(status, 200, body);
    assert.match(body, /^you sent Bearer \*+$/, 'the token does not come back');
  }
  await ask('/http/api/items');
  assert.equal(tokens.asked.length, 1);
  const [id = '', secret = ''] = Buffer.from(
    tokens.asked[0]?.authorization?.slice(6) ?? '',
    'base64',
  )
    .toString()
    .split(':')
    .map((text) => new URLSearchParams(`v=${text}`).get('v') ?? '');
  assert.deepEqual([id, secret], ['outrider+client', SECRET]);
  assert.equal(tokens.asked[0]?.body, 'grant_type=client_credentials&scope=read+list&audience=api');
  assert.ok(
    origin.seen.every(({ headers }) => headers.authorization === 'Bearer token-1-of-the-api'),
  );
});

test('a token that is not taken is not used again, and the call is not repeated', async (t) => {
  const tokens = await startTokens(t);
  const origin = await startOrigin(t, (_seen, response) => {
    response.statusCode = origin.seen.length === 1 ? 401 : 200;
    response.end();
  });
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`, oauth2(tokens.port));
  const post = { method: 'POST', body: 'x' };
  assert.equal((await ask('/http/api/items', post)).status, 401);
  assert.equal(origin.seen.length, 1);
  assert.equal((await ask('/http/api/items', post)).status, 200);
  assert.equal(origin.seen[1]?.headers.authorization, 'Bearer token-2-of-the-api');
});

test('near its end a token is replaced while it still serves', async (t) => {
  const tokens = await startTokens(t);
  const origin = await startOrigin(t);
  tokens.answer.body = { access_token: 'short-{n}', token_type: 'bearer', expires_in: 20 };
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`, oauth2(tokens.port));
  const sent = async () => {
    assert.equal((await ask('/http/api/items')).status, 200);
    return origin.seen.at(-1)?.headers.authorization;
  };
  const real = performance.now.bind(performance);
  assert.equal(await sent(), 'Bearer short-1');
  t.mock.method(performance, 'now', () => real() + 15_000);
  assert.equal(await sent(), 'Bearer short-1');
  assert.equal(tokens.asked.length, 1, 'not before the last fifth of its life');
  t.mock.method(performance, 'now', () => real() + 17_000);
  assert.equal(await sent(), 'Bearer short-1', 'it still serves');
  for (let left = 2_000; (await sent()) === 'Bearer short-1' && left > 0; left--)
    await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(await sent(), 'Bearer short-2');
  assert.equal(tokens.asked.length, 2);
});

const FAILURES: readonly (readonly [string, TokenServer['answer']])[] = [
  ['an error', { status: 500, body: { error: `it knows ${SECRET}` } }],
  ['a refusal', { status: 401, body: { error: 'invalid_client' } }],
  ['a redirect', { status: 302, body: '' }],
  ['something that is no JSON', { status: 200, body: '<html>' }],
  ['no token', { status: 200, body: { token_type: 'bearer' } }],
  [
    'a token that cannot stand in a header',
    { status: 200, body: { access_token: 'a\nb', token_type: 'bearer' } },
  ],
  ['a token of another type', { status: 200, body: { access_token: 'a', token_type: 'mac' } }],
  [
    'an expired token',
    { status: 200, body: { access_token: 'a', token_type: 'bearer', expires_in: 0 } },
  ],
  ['an answer without end', { status: 200, body: 'x'.repeat(100_000) }],
];
for (const [what, answer] of FAILURES)
  test(`no token is 502 credential_unavailable, and the API is not asked: ${what}`, async (t) => {
    const tokens = await startTokens(t);
    const origin = await startOrigin(t);
    Object.assign(tokens.answer, answer);
    const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`, oauth2(tokens.port));
    const answers = [await ask('/http/api/items'), await ask('/http/api/items')];
    for (const got of answers) {
      assert.equal(got.status, 502, got.body);
      assert.equal(got.error.reason, 'credential_unavailable');
      assert.ok(!got.body.includes(SECRET));
    }
    assert.equal(origin.seen.length, 0);
    assert.equal(tokens.asked.length, 1, 'no storm: the second was told of the first failure');
  });

/** An HTTPS server whose certificate nobody trusts by himself, and which asks for one if told to. */
async function startTls(t: TestContext, requestCert: boolean): Promise<number> {
  const server = createServer(
    {
      cert: CERTIFICATE,
      key: CERTIFICATE_KEY,
      ca: CERTIFICATE,
      requestCert,
      rejectUnauthorized: requestCert,
    },
    (request, response) => {
      const { socket } = request;
      const shown =
        'getPeerCertificate' in socket &&
        Object.keys(Object(socket).getPeerCertificate()).length > 0;
      response.end(shown ? 'with a certificate' : 'without');
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP listener');
  return address.port;
}

const NONE = { auth: { type: 'none' } };
const PEM = { secret: 'x', pem: `${CERTIFICATE}\n${CERTIFICATE_KEY}\n` };

test('authorities of a datasource are for it alone: without them its certificate is not taken', async (t) => {
  const endpoint = `https://localhost:${await startTls(t, false)}`;
  const trusted = await meshTo(t, endpoint, { ...NONE, tls: { ca: CERTIFICATE } });
  assert.equal((await trusted.ask('/http/api/x')).body, 'without');
  const untrusted = await meshTo(t, endpoint, NONE);
  const got = await untrusted.ask('/http/api/x');
  assert.equal(got.status, 502);
  assert.equal(got.error.reason, 'upstream_tls');
});

test('a client certificate is shown to its datasource; without it the other side hangs up', async (t) => {
  const endpoint = `https://localhost:${await startTls(t, true)}`;
  const tls = { ca: CERTIFICATE, clientCertificateRef: 'file:pem' };
  const shown = await meshTo(t, endpoint, { ...NONE, tls }, PEM);
  assert.equal((await shown.ask('/http/api/x')).body, 'with a certificate');
  const without = await meshTo(t, endpoint, { ...NONE, tls: { ca: CERTIFICATE } });
  assert.equal((await without.ask('/http/api/x')).status, 502);
});

test('a client certificate that is none is 503 credential_unavailable', async (t) => {
  const endpoint = `https://localhost:${await startTls(t, true)}`;
  const tls = { ca: CERTIFICATE, clientCertificateRef: 'file:pem' };
  for (const pem of ['-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n', CERTIFICATE]) {
    const { ask } = await meshTo(t, endpoint, { ...NONE, tls }, { pem });
    const got = await ask('/http/api/x');
    assert.equal(got.status, 503, got.body);
    assert.equal(got.error.reason, 'credential_unavailable');
  }
});
