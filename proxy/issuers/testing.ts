import { createServer, type Server } from 'node:http';
import type { TestContext } from 'node:test';
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';

/** For tests alone: an identity provider with discovery and keys on loopback, which can be slow, away, or send garbage. */

export interface TestIssuer {
  readonly url: string;
  /** How often its keys were asked for. */
  readonly asked: () => number;
  /** How it behaves from now on. */
  behave: (how: 'well' | 'garbage' | 'down' | 'slow' | 'other-issuer') => void;
  /** Makes a new key, and forgets those before it where `alone`. */
  readonly rotate: (kid: string, alone?: boolean) => Promise<void>;
  /** An access token with the newest key, all of it right unless told otherwise. */
  readonly token: (
    claims?: Readonly<Record<string, unknown>>,
    header?: Record<string, unknown>,
  ) => Promise<string>;
  readonly stop: () => Promise<void>;
}

export async function startIssuer(
  t: TestContext,
  audience = 'https://proxy.example',
): Promise<TestIssuer> {
  const keys: JWK[] = [];
  let signer = await generateKeyPair('ES256');
  let kid = '';
  let asked = 0;
  let how: Parameters<TestIssuer['behave']>[0] = 'well';
  const held: (() => void)[] = [];
  const server: Server = createServer((request, response) => {
    const isKeys = request.url === '/keys';
    if (isKeys) asked += 1;
    const answer = (): void => {
      if (how === 'down') response.writeHead(503).end();
      else if (how === 'garbage') response.end('{"keys": "none"');
      else if (isKeys) response.end(JSON.stringify({ keys }));
      else {
        const issuer = how === 'other-issuer' ? 'https://other.example' : url;
        response.end(JSON.stringify({ issuer, jwks_uri: `${url}/keys` }));
      }
    };
    if (how === 'slow') held.push(answer);
    else answer();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.closeAllConnections();
      server.close(() => resolve());
    });
  t.after(stop);
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
  const rotate: TestIssuer['rotate'] = async (name, alone = false) => {
    signer = await generateKeyPair('ES256');
    kid = name;
    if (alone) keys.length = 0;
    keys.push({ ...(await exportJWK(signer.publicKey)), kid, alg: 'ES256', use: 'sig' });
  };
  await rotate('first');
  return {
    url,
    asked: () => asked,
    behave: (next) => {
      how = next;
      if (next !== 'slow') for (const answer of held.splice(0)) answer();
    },
    rotate,
    stop,
    token: (claims = {}, header = {}) => {
      const now = Math.floor(Date.now() / 1_000);
      return new SignJWT({
        iss: url,
        aud: audience,
        sub: 'alice',
        groups: ['data'],
        iat: now,
        exp: now + 300,
        ...claims,
      })
        .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid, ...header })
        .sign(signer.privateKey);
    },
  };
}
