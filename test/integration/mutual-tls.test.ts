import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { makePki } from '#core/testing/pki';
import { startExampleApi } from '../support/example-api.ts';
import { startMesh } from '../support/mesh.ts';

// Sidecars that call the proxy over TCP with certificates, as they do from another host: every part a real process.

const SECRET = 'datasource-secret-5c1b7702';
const PROGRAM =
  'import os, urllib.request as r\ntry: print(r.urlopen(os.environ["OUTRIDER_URL"] + "/http/example/items").status)\nexcept r.HTTPError as e: print(e.code, e.headers["x-outrider-reason"])';

async function mesh(
  t: TestContext,
  sharing: string,
  client: (pki: ReturnType<typeof makePki>) => ReturnType<ReturnType<typeof makePki>['issue']>,
) {
  const pki = makePki(t);
  const [server, shown] = [pki.issue('proxy'), client(pki)];
  const tcp = `127.0.0.1:${await freePort()}`;
  const started = await startMesh({
    env: {
      OUTRIDER_UP_SHARING: sharing,
      OUTRIDER_PROXY_TCP: tcp,
      OUTRIDER_PROXY_SERVER_TLS_CERT: server.cert,
      OUTRIDER_PROXY_SERVER_TLS_KEY: server.key,
      OUTRIDER_PROXY_SERVER_TLS_CLIENT_CA: pki.path('ca.pem'),
      OUTRIDER_RUNNER_PROXY: tcp,
      OUTRIDER_SIDECAR_PROXY: tcp,
      OUTRIDER_SIDECAR_PROXY_TLS_CERT: shown.cert,
      OUTRIDER_SIDECAR_PROXY_TLS_KEY: shown.key,
      OUTRIDER_SIDECAR_PROXY_TLS_CA: pki.path('ca.pem'),
    },
  });
  t.after(() => started.stop());
  started.writeSecret('example-api-token', SECRET);
  const api = await startExampleApi(started.ports.example, SECRET);
  t.after(() => api.close());
  return { started, api };
}

for (const sharing of ['host', 'none'])
  test(`over mutual TLS a program reaches its datasource, with sidecars of sharing ${sharing}, and the audit arrives`, async (t) => {
    const { started, api } = await mesh(t, sharing, (pki) => pki.issue('sidecar'));
    const { stdout, stderr } = await started.sdk.run(PROGRAM);
    assert.equal(stdout, '200\n', stderr + started.log());
    assert.equal(api.asked.length, 1);
    assert.ok(
      started
        .audit('sidecar')
        .some(({ event, verdict }) => event === 'request' && verdict === 'allow'),
    );
  });

test('a sidecar with a certificate of somebody else gets no answer, and its program nothing', async (t) => {
  const { started, api } = await mesh(t, 'host', (pki) => {
    pki.authority('other');
    return pki.issue('sidecar', 'other');
  });
  const { stdout } = await started.sdk.run(PROGRAM);
  assert.match(stdout, /^50[234] /);
  assert.equal(api.asked.length, 0);
});

async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}
