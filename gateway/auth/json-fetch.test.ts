import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeServer, listen } from '#core/http';
import { startHttp, temporaryDirectory } from '../testing.ts';
import { fetchJson } from './json-fetch.ts';

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
    const url = await startHttp(t, (_, response) => {
      response.writeHead(status, { location: 'https://elsewhere.example' }).end(body);
    });
    const fetched = fetchJson(new URL(url));
    if (usable) assert.deepEqual(await fetched, { a: 1 });
    else await assert.rejects(fetched, { code: 'UPSTREAM_UNREACHABLE' });
  });

test('B4: a provider that does not answer is given up after its time', {
  timeout: 5_000,
}, async (t) => {
  const url = await startHttp(t, () => {});
  const started = performance.now();
  await assert.rejects(fetchJson(new URL(url), { timeoutMs: 200 }), {
    code: 'UPSTREAM_UNREACHABLE',
  });
  assert.ok(performance.now() - started < 3_000);
});

test('B4: a provider whose certificate nobody vouches for is refused', async (t) => {
  const directory = temporaryDirectory(t);
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const subject = [
    '-subj',
    '/CN=localhost',
    '-addext',
    'subjectAltName=IP:127.0.0.1',
    '-days',
    '1',
  ];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      key,
      '-out',
      cert,
      ...subject,
    ],
    { stdio: 'ignore' },
  );
  let requests = 0;
  const server = createServer(
    { key: readFileSync(key), cert: readFileSync(cert) },
    (_, response) => {
      requests += 1;
      response.end('{}');
    },
  );
  const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  t.after(() => closeServer(server));
  assert.ok(address.kind === 'tcp');
  await assert.rejects(fetchJson(new URL(`https://127.0.0.1:${address.port}/`)), {
    code: 'UPSTREAM_UNREACHABLE',
  });
  assert.equal(requests, 0);
});
