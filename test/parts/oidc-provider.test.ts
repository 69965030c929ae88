import assert from 'node:assert/strict';
import { createServer, type RequestListener, type Server } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { closeServer, listen } from '#core/http';
import { postForm } from '#core/testing/post-form';
import { type ExampleApi, startExampleApi } from '../support/example-api.ts';
import { type RunningMesh, startMesh } from '../support/mesh.ts';
import { askAsSidecar } from '../support/plays-sidecar.ts';

// An identity provider as others publish it (oidc-provider of npm, certified for OpenID Connect) before the running proxy: its discovery,
// its keys, its access tokens (RFC 9068), and keys that it changes. OUTRIDER_OIDC_PROVIDER names the directory that it was installed into.

const installed = process.env['OUTRIDER_OIDC_PROVIDER'] ?? '';
const AUDIENCE = 'https://proxy.example';
const COOLDOWN_MS = 100;
const CLIENT = { client_id: 'agent', client_secret: 'a-secret-of-the-client' };
const SECRET = 'datasource-secret-70de5512';

let mesh: RunningMesh;
let api: ExampleApi;
let server: Server;
let issuer = '';
let handle: RequestListener = (_request, response) => void response.writeHead(503).end();

before(async () => {
  server = createServer((asked, response) => handle(asked, response));
  const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  issuer = `http://127.0.0.1:${address.kind === 'tcp' ? address.port : 0}`;
  await provide('first');
  mesh = await startMesh({
    policy: (text, file) =>
      file === 'role-analyst.yaml'
        ? text.replace('  members:\n', `  members:\n    - {issuer: "${issuer}", group: data}\n`)
        : text,
    env: {
      OUTRIDER_PROXY_ISSUERS: JSON.stringify([
        { issuer, audience: AUDIENCE, groups: ['data'], jwksCooldown: `${COOLDOWN_MS}ms` },
      ]),
    },
  });
  mesh.writeSecret('example-api-token', SECRET);
  api = await startExampleApi(mesh.ports.example, SECRET);
});
after(async () => {
  await closeServer(server); // first: where the mesh did not start there is only this, and it would keep the process
  await api.close();
  await mesh.stop();
});

/** What the test needs of the package. */
interface ProviderModule {
  readonly Provider: new (
    issuer: string,
    configuration: unknown,
  ) => { readonly callback: () => RequestListener };
}

/** From now on the provider has one key, of this name, and no other. */
async function provide(kid: string): Promise<void> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const key: JWK = { ...(await exportJWK(privateKey)), kid, alg: 'ES256', use: 'sig' };
  const path = join(installed, 'node_modules/oidc-provider/lib/index.js');
  const module: ProviderModule = await import(pathToFileURL(path).href);
  const provider = new module.Provider(issuer, {
    clients: [
      {
        ...CLIENT,
        grant_types: ['client_credentials'],
        id_token_signed_response_alg: 'ES256',
        redirect_uris: [],
        response_types: [],
      },
    ],
    jwks: { keys: [key] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_context: unknown, resource: string) => ({
          scope: 'groups:data groups:sales',
          audience: resource,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    extraTokenClaims: (_context: unknown, { scope }: { scope?: string }) => ({
      groups: (scope ?? '').split(' ').map((each) => each.replace('groups:', '')),
    }),
    scopes: ['groups:data', 'groups:sales'],
  });
  handle = provider.callback();
}

/** An access token, as the provider gives it to its client. */
async function accessToken({ resource = AUDIENCE, scope = 'groups:data' } = {}): Promise<string> {
  const answer = await fetch(`${issuer}/token`, {
    method: 'POST',
    body: new URLSearchParams({ ...CLIENT, grant_type: 'client_credentials', resource, scope }),
  });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return String(JSON.parse(text).access_token);
}

async function exchange(subjectToken: string) {
  const form = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    subject_token: subjectToken,
  });
  const socket = join(mesh.runtime, 'proxy.sock');
  const { status, headers, body } = await postForm(socket, '/.outrider/token', form);
  return { status, reason: headers['x-outrider-reason'], token: String(body['access_token']) };
}

test('F4: an access token of oidc-provider is exchanged, and what comes of it is good at the proxy', async () => {
  const { status, token } = await exchange(await accessToken());
  assert.equal(status, 200);
  assert.deepEqual(await askAsSidecar(mesh, token), { status: 200, code: undefined });
  const record = mesh.audit('proxy').findLast(({ event }) => event === 'request');
  assert.equal(record?.['issuer'], issuer);
  assert.equal(record?.['subject'], CLIENT.client_id);
});

test('F4: its token for another audience, or of another group, is refused', async () => {
  const elsewhere = await exchange(await accessToken({ resource: 'https://wiki.example' }));
  assert.deepEqual([elsewhere.status, elsewhere.reason], [400, 'jwt_aud']);
  const stranger = await exchange(await accessToken({ scope: 'groups:sales' }));
  assert.deepEqual([stranger.status, stranger.reason], [403, 'role_denied']);
});

test('F4: a key that it changes is followed, and a token of the old one refused', async () => {
  const old = await accessToken();
  assert.equal((await exchange(old)).status, 200);
  await provide('second');
  await sleep(COOLDOWN_MS);
  assert.equal((await exchange(await accessToken())).status, 200);
  const { status, reason } = await exchange(old);
  assert.deepEqual([status, reason], [400, 'jwt_kid_unknown']);
});

test('F4: while it is away its known key goes on being good', async () => {
  const token = await accessToken();
  assert.equal((await exchange(token)).status, 200);
  handle = (_request, response) => void response.writeHead(503).end();
  assert.equal((await exchange(token)).status, 200);
});
