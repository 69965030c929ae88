import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { createServer as createPlain, request as requestPlain, type Server } from 'node:http';
import { createServer, type RequestOptions, request } from 'node:https';
import { type TestContext, test } from 'node:test';
import { listen } from '#core/http';
import { channelOf } from './channel.ts';
import { CERTIFICATE, CERTIFICATE_KEY } from './testing.ts';

const PAIR = { cert: CERTIFICATE, key: CERTIFICATE_KEY };

/** Notes the channel of each request. */
async function started(t: TestContext, server: Server) {
  const seen: (string | undefined)[] = [];
  server.on('request', (incoming, response) => {
    seen.push(channelOf(incoming), channelOf(incoming));
    response.end();
  });
  await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  t.after(() => server.close());
  const address = server.address();
  assert.ok(typeof address === 'object' && address);
  return { seen, port: address.port };
}

/** One request, over a connection of its own. */
async function ask(send: typeof request, options: RequestOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const sent = send({ host: '127.0.0.1', agent: false, ...options });
    sent.on('error', reject);
    sent.on('response', (response) => response.resume().on('end', resolve));
    sent.end();
  });
}

test('J025: a connection over TLS is never taken for one of this machine, also where it shows no certificate', async (t) => {
  const { seen, port } = await started(
    t,
    createServer({ ...PAIR, requestCert: true, rejectUnauthorized: false }),
  );
  await ask(request, { port, ca: CERTIFICATE, servername: 'localhost' });
  assert.deepEqual(seen, ['', '']);
  await ask(request, { port, ca: CERTIFICATE, servername: 'localhost', ...PAIR });
  const print = createHash('sha256').update(new X509Certificate(CERTIFICATE).raw);
  const thumbprint = print.digest('base64url');
  assert.deepEqual(seen.slice(2), [thumbprint, thumbprint]);
});

test('control: a socket of this machine has no certificate', async (t) => {
  const { seen, port } = await started(t, createPlain());
  await ask(requestPlain, { port });
  assert.deepEqual(seen, [undefined, undefined]);
});
