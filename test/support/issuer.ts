import { createServer } from 'node:http';
import type { TestContext } from 'node:test';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { closeServer, listen } from '#core/http';

/** An identity provider of the tests, with discovery and keys on loopback. A real one is in test/parts. */
export async function startIssuer(t: TestContext, audience: string) {
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  const keys = [{ ...(await exportJWK(publicKey)), kid: 'one', alg: 'ES256', use: 'sig' }];
  const server = createServer((request, response) => {
    const isKeys = request.url === '/keys';
    response.end(JSON.stringify(isKeys ? { keys } : { issuer: url, jwks_uri: `${url}/keys` }));
  });
  const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${address.kind === 'tcp' ? address.port : 0}`;
  t.after(() => closeServer(server));
  return {
    url,
    /** An access token of alice, for ten minutes unless told otherwise. */
    token: (claims: Readonly<Record<string, unknown>> = {}) =>
      new SignJWT({
        iss: url,
        aud: audience,
        sub: 'alice',
        groups: ['data'],
        exp: Math.floor(Date.now() / 1_000) + 600,
        ...claims,
      })
        .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'one' })
        .sign(privateKey),
  };
}
