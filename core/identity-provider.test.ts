import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type TestContext, test } from 'node:test';
import { formatAddress } from './address.ts';
import { closeServer, listen } from './http.ts';
import { discoveryUrl, fetchJson, providerUrl } from './identity-provider.ts';
import { selfSigned } from './testing/pki.ts';

const BOUNDS = { timeoutMs: 30_000, maxBytes: 2 ** 20 };

const ANY = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const;

const CASES = [
  [200, '{"a":1}', true, 'an object'],
  [200, '[1]', false, 'no object'],
  [200, 'no JSON', false, 'no JSON'],
  [500, '{"a":1}', false, 'a failure'],
  [302, '{"a":1}', false, 'a redirect, which is not followed'],
  [200, `{"a":"${'x'.repeat(2 ** 20)}"}`, false, 'more than anybody needs to say'],
] as const;

for (const [status, body, usable, why] of CASES)
  test(`a provider that answers ${status} is ${usable ? 'understood' : 'unreachable'}: ${why}`, async (t) => {
    const url = await startProvider(t, (_, response) => {
      response.writeHead(status, { location: 'https://elsewhere.example' }).end(body);
    });
    const fetched = fetchJson(url, BOUNDS);
    if (usable) assert.deepEqual(await fetched, { a: 1 });
    else await assert.rejects(fetched, { code: 'UPSTREAM_UNREACHABLE' });
  });

test('B4: a provider that does not answer is given up after its time', {
  timeout: 120_000,
}, async (t) => {
  const url = await startProvider(t, () => {});
  await assert.rejects(fetchJson(url, { ...BOUNDS, timeoutMs: 200 }), {
    code: 'UPSTREAM_UNREACHABLE',
  });
});

test('B4: a provider whose certificate nobody vouches for is refused', async (t) => {
  let requests = 0;
  const server = createHttpsServer(selfSigned(t), (_, response) => {
    requests += 1;
    response.end('{}');
  });
  const address = await listen(server, ANY);
  t.after(() => closeServer(server));
  await assert.rejects(fetchJson(new URL(`https://${formatAddress(address)}/`), BOUNDS), {
    code: 'UPSTREAM_UNREACHABLE',
  });
  assert.equal(requests, 0);
});

test('a form is posted with the headers that it needs', async (t) => {
  const asked: unknown[] = [];
  const url = await startProvider(t, (request, response) => {
    const { authorization, 'content-type': type } = request.headers;
    let body = '';
    request.setEncoding('utf8').on('data', (piece) => {
      body += piece;
    });
    request.on('end', () => {
      asked.push([request.method, authorization, type, body]);
      response.end('{}');
    });
  });
  const form = new URLSearchParams({ token: 'a b' });
  await fetchJson(url, { ...BOUNDS, form, headers: { authorization: 'Basic x' } });
  await fetchJson(url, BOUNDS);
  assert.deepEqual(asked, [
    ['POST', 'Basic x', 'application/x-www-form-urlencoded', 'token=a+b'],
    ['GET', undefined, undefined, ''],
  ]);
});

for (const [text, usable] of [
  ['https://idp.example/keys', true],
  ['http://127.0.0.1:8080/keys', true],
  ['http://[::1]:8080/keys', true],
  ['http://localhost/keys', true],
  ['http://idp.example/keys', false],
  ['http://127.0.0.1.example/keys', false],
  ['ftp://idp.example/keys', false],
  ['/etc/keys', false],
  ['', false],
] as const)
  test(`what ${text || 'nothing'} answers ${usable ? 'is believed' : 'could be altered on the way, and is refused'}`, () => {
    if (usable) assert.equal(providerUrl(text, 'it').href, text);
    else assert.throws(() => providerUrl(text, 'it'), { code: 'CONFIG_INVALID' });
  });

test('an issuer is discovered below its own path, with or without a slash at its end', () => {
  for (const issuer of ['https://idp.example/realm', 'https://idp.example/realm/'])
    assert.equal(
      discoveryUrl(issuer).href,
      'https://idp.example/realm/.well-known/openid-configuration',
    );
  assert.throws(() => discoveryUrl('http://idp.example'), { code: 'CONFIG_INVALID' });
});

async function startProvider(t: TestContext, answer: RequestListener): Promise<URL> {
  const server = createServer(answer);
  const address = await listen(server, ANY);
  t.after(() => closeServer(server));
  return new URL(`http://${formatAddress(address)}`);
}
