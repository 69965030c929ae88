import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';

const ISSUER = 'https://idp.example';
const AUDIENCE = 'https://mcp.example/mcp';
const POLICY = `apiVersion: outrider/v1
kind: Role
metadata: {name: bench, owner: bench}
spec:
  members: [{issuer: "${ISSUER}"}]
  tools: [echo]
  sandbox: {timeout: 60s, memory: 128MiB, disk: 16MiB}
`;

/** Everything that a gateway checks in earnest: tokens of an identity provider, and a Role that names the tool. */
export interface Identity {
  /** Options of the gateway. */
  readonly argv: readonly string[];
  readonly token: string;
  remove(): void;
}

export async function makeIdentity(): Promise<Identity> {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-bench-'));
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  chmodSync(directory, 0o755); // a gateway that has given up root reads it again
  const path = (name: string) => join(directory, name);
  const key = { ...(await exportJWK(publicKey)), alg: 'ES256', kid: 'bench', use: 'sig' };
  writeFileSync(path('jwks.json'), JSON.stringify({ keys: [key] }));
  const issuer = { issuer: ISSUER, jwks: path('jwks.json'), audience: AUDIENCE };
  writeFileSync(path('config.yaml'), JSON.stringify({ gateway: { issuers: [issuer] } }));
  mkdirSync(path('policies'));
  writeFileSync(path('policies/bench.yaml'), POLICY);
  const token = await new SignJWT({ sub: 'bench' })
    .setProtectedHeader({ alg: 'ES256', kid: 'bench' })
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setExpirationTime('1h')
    .sign(privateKey);
  return {
    argv: ['--config', path('config.yaml'), '--policies', path('policies')],
    token,
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}
