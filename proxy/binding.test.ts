import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  BOUNDARY,
  CERTIFICATE,
  egressPolicy,
  ROLE,
  type Seen,
  startCorporateProxy,
  startDns,
  startMesh,
  startOrigin,
  type TestDocument,
} from './testing.ts';

// What a CredentialBinding puts into a request besides a header (egress.test.ts has that, and client certificates): a token that the proxy
// gets for itself, and a signature of AWS.

const CLIENT_SECRET = 'client+secret/of=ours';
const REAL = { id: 'AKIAREALREALREAL', key: 'real/secret+key', session: 'a-session-token' };

/** A binding for `api.example`, and a proxy that reaches it, and the token endpoints, over TLS at one origin. */
async function mesh(
  t: TestContext,
  inject: unknown,
  {
    answer,
    rule = {},
    spec = {},
    secret = CLIENT_SECRET,
  }: {
    answer?: Parameters<typeof startOrigin>[1];
    rule?: Readonly<Record<string, unknown>>;
    spec?: Readonly<Record<string, unknown>>;
    secret?: string;
  } = {},
) {
  const origin = await startOrigin(t, answer, { tls: true });
  const { proxy } = await startCorporateProxy(t, origin.port);
  const dns = await startDns(t, {
    'api.example': ['203.0.113.7'],
    'private.example': ['10.0.0.1'],
  });
  const directory = mkdtempSync(join(tmpdir(), 'outrider-ca-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const caFile = join(directory, 'ca.pem');
  writeFileSync(caFile, CERTIFICATE);
  const binding: TestDocument = {
    kind: 'CredentialBinding',
    metadata: { name: 'ours' },
    spec: { secretRef: 'file:secret', hosts: ['api.example'], inject, ...spec },
  };
  const allowed = {
    id: 'api',
    hosts: ['api.example'],
    methods: ['GET', 'PUT', 'POST', 'HEAD'],
    paths: 'any',

    credential: 'ours',
    ...rule,
  };
  const started = await startMesh(t, {
    documents: [ROLE, BOUNDARY, egressPolicy([allowed]), binding],
    config: {
      dns: { servers: [dns.address] },
      tls: { caFile },
      upstreamProxy: `http://127.0.0.1:${proxy.port}`,
    },
    secrets: { secret },
  });
  return { ...started, origin };
}

const OAUTH2 = {
  oauth2: {
    tokenUrl: 'https://api.example/token',
    clientId: 'outrider',
    scopes: ['read', 'list'],
    audience: 'api',
  },
};

/** Gives tokens at `/token`, and says elsewhere with what it was asked. */
const api =
  (status = () => 200): NonNullable<Parameters<typeof startOrigin>[1]> =>
  ({ url, headers }, response) => {
    if (url !== '/token') response.writeHead(status()).end(`you sent ${headers.authorization}`);
    else
      response.end(
        JSON.stringify({ access_token: `token-${(tokens += 1)}-of-the-api`, token_type: 'Bearer' }),
      );
  };
let tokens = 0;

test('F1: a binding gets a token for itself (client credentials), once, and it goes to its host alone and does not come back', async (t) => {
  const { ask, origin, records } = await mesh(t, OAUTH2, { answer: api() });
  const answers = await Promise.all(
    Array.from({ length: 4 }, () =>
      ask('https://api.example/v1', { headers: { authorization: 'theirs' } }),
    ),
  );
  for (const { status, body } of answers) {
    assert.equal(status, 200, body);
    assert.match(body, /^you sent Bearer \*+$/);
  }
  const [asked, ...others] = origin.seen.filter(({ url }) => url === '/token');
  assert.equal(others.length, 0);
  assert.equal(asked?.method, 'POST');
  const pair = Buffer.from(asked?.headers.authorization?.slice(6) ?? '', 'base64').toString();
  assert.equal(pair, `outrider:${encodeURIComponent(CLIENT_SECRET)}`);
  assert.equal(asked?.body, 'grant_type=client_credentials&scope=read+list&audience=api');
  for (const { headers } of origin.seen.filter(({ url }) => url === '/v1'))
    assert.match(headers.authorization ?? '', /^Bearer token-\d+-of-the-api$/);
  assert.equal(records().at(-1)?.['credential'], 'ours');
});

test('a token of a binding that is not taken is not used again, and the call is not repeated', async (t) => {
  let calls = 0;
  const answer = api(() => ((calls += 1) === 1 ? 401 : 200));
  const { ask, origin } = await mesh(t, OAUTH2, { answer });
  const post = { method: 'POST', body: 'x' };
  assert.equal((await ask('https://api.example/v1', post)).status, 401);
  assert.equal(calls, 1);
  assert.equal((await ask('https://api.example/v1', post)).status, 200);
  assert.equal(origin.seen.filter(({ url }) => url === '/token').length, 2);
});

test('a token endpoint of a binding is dialled at public addresses alone, and without a token nothing is sent', async (t) => {
  const tokenUrl = 'https://private.example/token';
  const inject = { oauth2: { ...OAUTH2.oauth2, tokenUrl } };
  const { ask, origin } = await mesh(t, inject, { answer: api() });
  const got = await ask('https://api.example/v1');
  assert.equal(got.status, 502);
  assert.equal(got.error.reason, 'credential_unavailable');
  assert.equal(origin.connections(), 0);
  assert.ok(!got.body.includes('private.example'));
});

test('a token endpoint that gives none is 502, and nothing is sent to the host', async (t) => {
  const { ask, origin } = await mesh(t, OAUTH2, {
    answer: ({ url }, response) => void response.writeHead(url === '/token' ? 400 : 200).end(),
  });
  assert.equal((await ask('https://api.example/v1')).error.reason, 'credential_unavailable');
  assert.deepEqual(
    origin.seen.map(({ url }) => url),
    ['/token'],
  );
});

const SIGV4 = (service: string) => ({ sigv4: { service, region: 'eu-central-1' } });
const hashed = (text: string) => createHash('sha256').update(text).digest('hex');
const mac = (key: Buffer | string, text: string) => createHmac('sha256', key).update(text).digest();

/** AWS's rules, written down once more, for what an origin got: nothing here is the proxy's code. */
function isSigned(seen: Seen, service: string, secretKey = REAL.key): boolean {
  const [, id, scope = '', names = '', claimed] =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})$/.exec(
      seen.headers.authorization ?? '',
    ) ?? [];
  const time = String(seen.headers['x-amz-date']);
  const [path = '', query = ''] = seen.url.split('?');
  const once = path.split('/').map((part) => (service === 's3' ? part : encodeURIComponent(part)));
  const canonical = [
    seen.method,
    once.join('/'),
    query.split('&').toSorted().join('&'),
    ...names.split(';').map((name) => `${name}:${String(seen.headers[name]).trim()}`),
    '',
    names,
    service === 's3' ? seen.headers['x-amz-content-sha256'] : hashed(seen.body),
  ].join('\n');
  const key = scope.split('/').reduce<Buffer | string>(mac, `AWS4${secretKey}`);
  const text = ['AWS4-HMAC-SHA256', time, scope, hashed(canonical)].join('\n');
  return (
    id === REAL.id &&
    scope === `${time.slice(0, 8)}/eu-central-1/${service}/aws4_request` &&
    claimed === mac(key, text).toString('hex')
  );
}

const PAIR = `${REAL.id}:${REAL.key}`;
const ALLOWED = 'https://api.example';

test('F1 F3: a binding signs requests for a service of AWS as wholes, with the headers that choose what is called, and nothing of the program', async (t) => {
  const { ask, origin, records } = await mesh(t, SIGV4('dynamodb'), {
    secret: `${PAIR}:${REAL.session}`,
  });
  const headers = {
    'content-type': 'application/x-amz-json-1.0',
    'x-amz-target': 'DynamoDB_20120810.GetItem',
    'x-amz-date': '20200101T000000Z',
    'x-amz-security-token': 'theirs',
    authorization: 'AWS4-HMAC-SHA256 Credential=OUTRIDER/20200101/x/y/aws4_request',
  };
  const requests = [
    ['POST', '/', '{"TableName":"t"}'],
    ['POST', '/stage/a%20b/%C3%BC?b=2&a=1%2F2&c', 'x'.repeat(100_000)],
    ['GET', '/stage/items', undefined],
  ] as const;
  for (const [at, [method, path, body]] of requests.entries()) {
    const got = await ask(`${ALLOWED}${path}`, { method, headers, ...(body && { body }) });
    assert.equal(got.status, 200, got.body);
    const seen = origin.seen[at];
    assert.ok(seen && isSigned(seen, 'dynamodb'), JSON.stringify(seen?.rawHeaders));
    assert.equal(seen.body, body ?? '');
    assert.equal(seen.headers['x-amz-target'], headers['x-amz-target']);
    assert.equal(seen.headers['x-amz-security-token'], REAL.session);
    assert.match(seen.headers.authorization ?? '', /x-amz-security-token;x-amz-target,/);
    assert.ok(!JSON.stringify(seen.rawHeaders).includes('OUTRIDER'));
    assert.ok(!isSigned(seen, 'dynamodb', 'another'), 'the check can fail');
  }
  assert.equal(records().at(-1)?.['credential'], 'ours');
});

test('what comes in chunks, or waits to be told to go on, is signed as a whole, too; what is larger than 1 MiB is refused', async (t) => {
  const { ask, origin } = await mesh(t, SIGV4('execute-api'), { secret: PAIR });
  const post = { method: 'POST', body: 'in chunks' };
  const chunked = await ask(`${ALLOWED}/a`, {
    ...post,
    headers: { 'transfer-encoding': 'chunked' },
  });
  assert.equal(chunked.status, 200, chunked.body);
  const waiting = await ask(`${ALLOWED}/a`, { ...post, headers: { expect: '100-continue' } });
  assert.equal(waiting.status, 200, waiting.body);
  for (const seen of origin.seen) {
    assert.equal(seen.body, 'in chunks');
    assert.ok(isSigned(seen, 'execute-api'));
  }
  const large = { method: 'POST', body: Buffer.alloc(1_048_577) };
  const got = await ask(`${ALLOWED}/a`, large);
  assert.deepEqual([got.status, got.error.reason], [413, 'body_too_large']);
  assert.equal(origin.seen.length, 2);
});

test('F3: a binding signs for S3, by the name of the bucket in host or path, uploads in chunks on their way', async (t) => {
  const { ask, origin } = await mesh(t, SIGV4('s3'), { secret: PAIR });
  const got = await ask(`${ALLOWED}/bucket/a%20b/%C3%BC.txt?list-type=2&prefix=a`, {
    headers: { range: 'bytes=0-3' },
  });
  assert.equal(got.status, 200, got.body);
  assert.ok(origin.seen[0] && isSigned(origin.seen[0], 's3'), JSON.stringify(origin.seen[0]));
  assert.equal(
    origin.seen[0].headers.range,
    'bytes=0-3',
    'only a signature is sent: pieces may come',
  );
  const put = await ask(`${ALLOWED}/bucket/k`, {
    method: 'PUT',
    body: Buffer.alloc(2_000_000, 'x'),
    headers: { 'x-amz-meta-a': 'b' },
  });
  assert.equal(put.status, 200, put.body);
  const [, uploaded] = origin.seen;
  assert.ok(uploaded && isSigned(uploaded, 's3'));
  assert.equal(uploaded.headers['x-amz-content-sha256'], 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD');
  assert.equal(uploaded.headers['x-amz-decoded-content-length'], '2000000');
  assert.equal(uploaded.headers['x-amz-meta-a'], 'b');
  const complete = await ask(`${ALLOWED}/bucket/k?uploadId=u`, { method: 'POST', body: '<a/>' });
  assert.equal(complete.status, 200, complete.body);
  assert.ok(origin.seen[2] && isSigned(origin.seen[2], 's3'));
  assert.equal(origin.seen[2].headers['x-amz-content-sha256'], hashed('<a/>'));
});

for (const [what, service, path, headers, reason] of [
  [
    'a copy of another object',
    's3',
    '/b/k',
    { 'x-amz-copy-source': '/b/secret' },
    's3_copy_source_forbidden',
  ],
  ['an access list', 's3', '/b/k?acl', {}, 's3_subresource_forbidden'],
  ['a parameter that is not known here', 's3', '/b?abac', {}, 's3_query_forbidden'],
  [
    'an access list in a header',
    's3',
    '/b/k',
    { 'x-amz-acl': 'public-read' },
    's3_subresource_forbidden',
  ],
  ['a presigned request', 's3', '/b/k?X-Amz-Signature=x', {}, 'sigv4_presigned_forbidden'],
  ['a presigned request', 'sts', '/?X-Amz-Credential=x', {}, 'sigv4_presigned_forbidden'],
  ['a query that two may read in two ways', 'sts', '/?a;b', {}, 'query_malformed'],
] as const)
  test(`${what} is not signed for ${service}: ${reason}, and nothing is looked up`, async (t) => {
    const { ask, origin } = await mesh(t, SIGV4(service), { secret: PAIR });
    const put = { method: 'PUT', body: 'x' };
    const got = await ask(`${ALLOWED}${path}`, { ...put, headers });
    assert.equal(got.error.reason, reason, got.body);
    assert.equal(origin.connections(), 0);
    assert.equal((await ask(`${ALLOWED}${path.split('?')[0]}`, put)).status, 200, 'control');
  });

test('a secret that is no pair signs nothing', async (t) => {
  const { ask, origin } = await mesh(t, SIGV4('sts'), { secret: 'alone' });
  const got = await ask(`${ALLOWED}/`);
  assert.deepEqual([got.status, got.error.reason], [503, 'credential_unavailable']);
  assert.equal(origin.seen.length, 0);
});

test('what says of a failure which key it was is covered, and the rest of an answer is as it came', async (t) => {
  let status = 403;
  const answer = (
    _seen: Seen,
    response: Parameters<NonNullable<Parameters<typeof startOrigin>[1]>>[1],
  ) => void response.writeHead(status).end(`the key ${REAL.id}`);
  const { ask } = await mesh(t, SIGV4('sts'), { secret: PAIR, answer });
  assert.match((await ask(`${ALLOWED}/`)).body, /^the key \*+$/);
  status = 200;
  assert.equal((await ask(`${ALLOWED}/`)).body, `the key ${REAL.id}`);
});

test('a request that is HTTP/2 all the way is not signed: protocol_not_allowed', async (t) => {
  const { addresses, origin, token } = await mesh(t, SIGV4('sts'), { secret: PAIR });
  const session = connectHttp2('http://proxy', {
    createConnection: () => connect(addresses.listen.kind === 'unix' ? addresses.listen.path : ''),
  });
  t.after(() => session.destroy());
  const stream = session.request({
    ':method': 'GET',
    ':scheme': 'https',
    ':authority': 'api.example',
    ':path': '/',
    'proxy-authorization': `Bearer ${await token()}`,
  });
  const reason = await new Promise((resolve, reject) => {
    stream.on('error', reject).on('response', (head) => resolve(head['x-outrider-reason']));
  });
  assert.equal(reason, 'protocol_not_allowed');
  assert.equal(origin.connections(), 0);
});
