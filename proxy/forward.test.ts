import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  BOUNDARY,
  CERTIFICATE,
  datasource,
  egressPolicy,
  ROLE,
  startMesh,
  startOrigin,
} from './testing.ts';

const SECRET = 'pa55-word/with+signs';
const AUTH = {
  bearer: { auth: { type: 'bearer' }, secretRef: 'file:secret' },
  basic: { auth: { type: 'basic', username: 'outrider' }, secretRef: 'file:secret' },
  header: { auth: { type: 'header', name: 'x-token' }, secretRef: 'file:secret' },
  none: { auth: { type: 'none' } },
  missing: { auth: { type: 'bearer' }, secretRef: 'file:not-there' },
};

/** A mesh whose datasources `http/<name of AUTH>` are all at one endpoint. */
function meshTo(t: TestContext, endpoint: string, config: Record<string, unknown> = {}) {
  const names = Object.keys(AUTH);
  return startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy(names.map((name) => ({ id: name, datasource: `http/${name}` }))),
      ...Object.entries(AUTH).map(([name, spec]) => datasource('http', name, endpoint, spec)),
    ],
    secrets: { secret: `${SECRET}\n` },
    config,
  });
}

const injected: readonly (readonly [string, string, string])[] = [
  ['bearer', 'authorization', `Bearer ${SECRET}`],
  ['basic', 'authorization', `Basic ${Buffer.from(`outrider:${SECRET}`).toString('base64')}`],
  ['header', 'x-token', SECRET],
];
for (const [name, header, value] of injected)
  test(`${name}: the credential is sent exactly once, and the caller's own is gone`, async (t) => {
    const origin = await startOrigin(t);
    const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}/base/`);
    const got = await ask(`/http/${name}/v1/x?q=1`, {
      headers: {
        authorization: 'Bearer of-the-sandbox',
        cookie: 'a=b',
        'x-token': 'theirs',
        connection: `close, ${header}`,
        'x-forwarded-for': '10.0.0.1',
      },
    });
    assert.equal(got.status, 200);
    const [seen] = origin.seen;
    assert.equal(seen?.url, '/base/v1/x?q=1');
    const names = (seen?.rawHeaders ?? [])
      .filter((_, at) => at % 2 === 0)
      .map((each) => each.toLowerCase());
    assert.equal(names.filter((each) => each === header).length, 1);
    assert.equal(seen?.headers[header], value);
    assert.equal(seen?.headers['accept-encoding'], 'identity');
    for (const gone of ['cookie', 'x-forwarded-for', 'proxy-authorization', 'x-request-id'])
      assert.ok(!names.includes(gone), gone);
    assert.ok(!JSON.stringify(seen?.rawHeaders).includes('of-the-sandbox'));
  });

test('where a credential goes in, no piece of an answer is asked for: a part could carry the secret past the redaction', async (t) => {
  const origin = await startOrigin(t);
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  const headers = { range: 'bytes=0-3', 'if-range': '"tag"' };
  await ask('/http/bearer/x', { headers });
  await ask('/http/none/x', { headers });
  assert.deepEqual(
    origin.seen.map((seen) => [seen.headers['range'], seen.headers['if-range']]),
    [
      [undefined, undefined],
      ['bytes=0-3', '"tag"'],
    ],
  );
});

test("a datasource without a credential gets none, the caller's neither", async (t) => {
  const origin = await startOrigin(t);
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  await ask('/http/none/x', { headers: { authorization: 'Bearer theirs' } });
  assert.equal(origin.seen[0]?.headers['authorization'], undefined);
});

test('a secret that cannot be read is 503, and nothing is dialled', async (t) => {
  const origin = await startOrigin(t);
  const { ask, records } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  const got = await ask('/http/missing/x');
  assert.equal(got.status, 503);
  assert.equal(got.error.code, 'CREDENTIAL_UNAVAILABLE');
  assert.equal(origin.connections(), 0);
  assert.equal(records().at(-1)?.['reason'], 'credential_unavailable');
});

test('a secret that the origin echoes does not come back, in headers or body, in any encoding', async (t) => {
  const pair = Buffer.from(`outrider:${SECRET}`).toString('base64');
  const origin = await startOrigin(t, (_seen, response) => {
    response.writeHead(200, `reason ${SECRET}`, { 'x-echo': `Basic ${pair}`, 'set-cookie': 's=1' });
    response.write(`raw ${SECRET.slice(0, 7)}`);
    setTimeout(() => {
      response.write(SECRET.slice(7));
      response.end(` b64 ${pair} hex ${Buffer.from(SECRET).toString('hex')} end`);
    }, 20);
  });
  const { ask, records } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  const got = await ask('/http/basic/echo');
  const everything = JSON.stringify(got.rawHeaders) + got.body;
  for (const shape of [SECRET, pair, pair.slice(12, 30), Buffer.from(SECRET).toString('hex')])
    assert.ok(!everything.includes(shape), shape);
  assert.match(got.body, /^raw \*{20} b64 \*+.* hex \*{40} end$/);
  assert.equal(got.headers['set-cookie'], undefined);
  const record = records().findLast(({ event }) => event === 'request');
  assert.equal(record?.['detail'], 'the credential came back and was redacted');

  const open = await ask('/http/none/echo');
  assert.ok(open.body.includes(SECRET), 'the origin really echoes it');
});

test('an answer in an encoding that hides the secret is refused', async (t) => {
  const origin = await startOrigin(t, (_seen, response) => {
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(SECRET));
  });
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  assert.equal((await ask('/http/bearer/x')).status, 502);
  assert.equal((await ask('/http/none/x')).status, 200);
});

test('a redirect is handed back, not followed', async (t) => {
  const elsewhere = await startOrigin(t);
  const origin = await startOrigin(t, (_seen, response) => {
    response.writeHead(302, { location: `http://127.0.0.1:${elsewhere.port}/` }).end();
  });
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  assert.equal((await ask('/http/bearer/x')).status, 302);
  assert.equal(origin.seen.length, 1);
  assert.equal(elsewhere.connections(), 0);
});

test('a body goes through whole, with and without a length', async (t) => {
  const origin = await startOrigin(
    t,
    (seen, response) => void response.end(String(seen.body.length)),
  );
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  const body = 'x'.repeat(300_000);
  assert.equal((await ask('/http/bearer/x', { method: 'POST', body })).body, '300000');
  const chunked = await ask('/http/bearer/x', {
    method: 'POST',
    body,
    headers: { 'transfer-encoding': 'chunked' },
  });
  assert.equal(chunked.body, '300000');
});

test('100-continue is answered by the proxy and not sent on', async (t) => {
  const origin = await startOrigin(t);
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  const got = await ask('/http/bearer/x', {
    method: 'PUT',
    body: 'abc',
    headers: { expect: '100-continue' },
  });
  assert.equal(got.status, 200);
  assert.equal(origin.seen[0]?.headers['expect'], undefined);
  assert.equal(origin.seen[0]?.body, 'abc');
});

test('an upstream that is not there is 502, a slow one 504', async (t) => {
  const closed = await meshTo(t, 'http://127.0.0.1:1');
  const refusedConnection = await closed.ask('/http/bearer/x');
  assert.equal(refusedConnection.status, 502);
  assert.equal(refusedConnection.error.code, 'UPSTREAM_UNREACHABLE');
  assert.ok(!refusedConnection.body.includes('127.0.0.1'), 'no address in the answer');

  const slow = await startOrigin(t, () => {});
  const waiting = await meshTo(t, `http://127.0.0.1:${slow.port}`, { upstreamTimeout: '300ms' });
  const late = await waiting.ask('/http/bearer/x', { method: 'POST', body: 'abc' });
  assert.equal(late.status, 504);
  assert.equal(late.error.code, 'UPSTREAM_TIMEOUT');
});

/** Answers every connection with the same bytes, and counts them. */
async function startRaw(
  t: TestContext,
  bytes: string,
): Promise<{ port: number; connections: () => number }> {
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    socket.on('error', () => {});
    socket.on('data', () => void socket.write(bytes));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : 0,
    connections: () => connections,
  };
}

const odd: readonly (readonly [string, string])[] = [
  [
    'a length and chunks at once',
    'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['something that is not HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
  [
    'an upgrade that nobody asked for',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
  ],
  ['endless informational answers', 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(40)],
  ['headers without end', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(131_072)}\r\n\r\n`],
];
for (const [what, bytes] of odd)
  test(`an upstream that answers with ${what} is 502, and the proxy goes on`, async (t) => {
    const raw = await startRaw(t, bytes);
    const { ask, records } = await meshTo(t, `http://127.0.0.1:${raw.port}`);
    const got = await ask('/http/none/x');
    assert.equal(got.status, 502, got.body);
    assert.equal(records().at(-1)?.['verdict'], 'error');
    assert.equal((await ask('/http/unknown/x')).status, 404);
  });

for (const [status, length] of [
  ['204 No Content', undefined],
  ['304 Not Modified', '4'],
] as const)
  test(`an answer ${status} that says a length of 4 is passed on with ${length ?? 'none'}`, async (t) => {
    const raw = await startRaw(t, `HTTP/1.1 ${status}\r\nContent-Length: 4\r\nETag: "x"\r\n\r\n`);
    const { ask } = await meshTo(t, `http://127.0.0.1:${raw.port}`);
    const got = await ask('/http/none/x');
    assert.equal(got.status, Number.parseInt(status, 10));
    assert.equal(got.headers['content-length'], length);
    assert.equal(got.headers.etag, '"x"', 'control: the rest is there');
  });

test('bytes behind an answer never become the answer to the next request', async (t) => {
  const raw = await startRaw(
    t,
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil',
  );
  const { ask } = await meshTo(t, `http://127.0.0.1:${raw.port}`);
  for (let round = 0; round < 3; round++)
    assert.ok(!(await ask('/http/none/x').catch(() => ({ body: '' }))).body.includes('evil'));
});

test('connections are reused for the same credential and never shared with another', async (t) => {
  const origin = await startOrigin(t);
  const { ask } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  await ask('/http/bearer/1');
  await ask('/http/bearer/2');
  assert.equal(origin.connections(), 1);
  await ask('/http/basic/3');
  assert.equal(origin.connections(), 2);
});

for (const headers of [{ 'content-type': 'text/event-stream' }, { 'content-length': '5' }])
  test(`the head of an answer does not wait for its body: ${Object.keys(headers)[0]}`, async (t) => {
    let tell = (): void => {};
    const origin = await startOrigin(t, (_seen, response) => {
      response.writeHead(200, headers).flushHeaders();
      tell = () => void response.end('hello');
    });
    const { addresses, token } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
    const sent = request({
      socketPath: addresses.listen.kind === 'unix' ? addresses.listen.path : '',
      path: '/http/bearer/x',
      headers: { 'proxy-authorization': `Bearer ${await token()}` },
    }).end();
    const [answer] = await once(sent, 'response');
    assert.equal(answer.statusCode, 200);
    tell();
    const pieces: Buffer[] = await answer.toArray();
    assert.equal(Buffer.concat(pieces).toString(), 'hello');
  });

test('a caller that leaves takes the upstream request with it', async (t) => {
  let aborted = () => {};
  const upstreamGone = new Promise<void>((resolve) => {
    aborted = resolve;
  });
  const origin = await startOrigin(t, (_seen, response) => {
    response.write('begun');
    response.on('close', () => aborted());
  });
  const { ask, addresses, token, records } = await meshTo(t, `http://127.0.0.1:${origin.port}`);
  assert.equal((await ask('/http/unknown/x')).status, 404);
  const leaving = request({
    socketPath: addresses.listen.kind === 'unix' ? addresses.listen.path : '',
    path: '/http/bearer/x',
    headers: { 'proxy-authorization': `Bearer ${await token()}` },
  });
  leaving.on('error', () => {});
  leaving.on('response', (response) => response.once('data', () => leaving.destroy()));
  leaving.end();
  await upstreamGone;
  assert.equal(records().at(-1)?.['code'], 'CANCELLED');
});

test('TLS is verified for the name of the endpoint', async (t) => {
  const origin = await startOrigin(t, undefined, { tls: true });
  const trusting = await meshTo(t, `https://localhost:${origin.port}`);
  const unknown = await trusting.ask('/http/bearer/x');
  assert.equal(unknown.status, 502);
  assert.equal(unknown.headers['x-outrider-reason'], 'upstream_tls');
  assert.equal(origin.seen.length, 0);

  const caFile = join(trusting.directory, 'ca.pem');
  writeFileSync(caFile, CERTIFICATE);
  const configured = await meshTo(t, `https://localhost:${origin.port}`, { tls: { caFile } });
  assert.equal((await configured.ask('/http/bearer/x')).status, 200);
  const otherName = await meshTo(t, `https://127.0.0.1:${origin.port}`, { tls: { caFile } });
  const mismatch = await otherName.ask('/http/bearer/x');
  assert.equal(mismatch.headers['x-outrider-reason'], 'upstream_tls');
  assert.equal(origin.seen.length, 1);
});
