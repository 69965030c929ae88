import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { Http1Pool } from '#core/http1/client';
import { askWhole } from '#core/http1/whole';
import { startCorporateProxy, startOrigin } from './testing.ts';
import { connectVia, parseUpstreamProxy } from './via-proxy.ts';

test('a tunnel leads to the very address that was given, with the credential of the proxy', async (t) => {
  const origin = await startOrigin(t);
  const { seen, proxy } = await startCorporateProxy(t, origin.port);
  const socket = await connectVia(proxy, '203.0.113.7', 443, 2_000);
  t.after(() => socket.destroy());
  assert.equal(seen[0]?.url, '203.0.113.7:443');
  assert.equal(seen[0]?.headers['proxy-authorization'], 'Basic dTpw');
  socket.write('GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
  let answer = '';
  for await (const piece of socket) answer += String(piece);
  assert.match(answer, /^HTTP\/1\.1 200 OK[\s\S]*hello/);
  const six = await connectVia(proxy, '2001:db8::7', 443, 2_000);
  six.destroy();
  assert.equal(seen[1]?.url, '[2001:db8::7]:443');
});

test('requests that are not TLS go through it as well', async (t) => {
  const origin = await startOrigin(t);
  const { proxy } = await startCorporateProxy(t, origin.port);
  const pool = new Http1Pool({
    connect: (done) => {
      connectVia(proxy, '203.0.113.7', 80, 2_000).then(
        (socket) => done(null, socket),
        (error: Error) => done(error, null),
      );
    },
    headersTimeoutMs: 10_000,
    bodyTimeoutMs: 10_000,
    idleMs: 1_000,
  });
  t.after(() => pool.destroy());
  const request = { method: 'GET', path: '/x', headers: ['host', 'a'] };
  const answer = await askWhole(pool, request, { timeoutMs: 10_000, maxBytes: 1_000 });
  assert.deepEqual([answer.status, answer.body.toString()], [200, 'hello']);
});

test('a proxy that refuses, or says nothing, is an error within the time', async (t) => {
  const { proxy } = await startCorporateProxy(t, 9, 403);
  await assert.rejects(connectVia(proxy, '203.0.113.7', 443, 2_000), /403/);
  const silent = createServer();
  silent.on('connect', (_request, socket) => void socket.on('error', () => {}));
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.after(() => {
    silent.closeAllConnections();
    silent.close();
  });
  const address = silent.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  await assert.rejects(connectVia({ ...proxy, port }, '203.0.113.7', 443, 200), /in time/);
});

test('the place of a proxy is a URL without path or password', () => {
  assert.deepEqual(parseUpstreamProxy('http://proxy.corp:3128'), {
    host: 'proxy.corp',
    port: 3128,
  });
  for (const bad of [
    'proxy.corp:3128',
    'https://proxy.corp',
    'http://u:p@proxy.corp',
    'http://p/x',
  ])
    assert.throws(() => parseUpstreamProxy(bad), /http:\/\/host:port/);
});
