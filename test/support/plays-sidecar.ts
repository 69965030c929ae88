import { request } from 'node:http';
import { join } from 'node:path';
import { keySetPaths, readSigningKey } from '#core/keys';
import { LOCAL_PRINCIPAL, type Principal } from '#core/principal';
import {
  AssertionSigner,
  AssertionVerifier,
  ExecutionSigner,
  publicIssuer,
  type SigningKey,
} from '#core/tokens';
import type { RunningMesh } from './mesh.ts';

/** What a token says, where it is not what the mesh's own would say. */
export interface TokenSays {
  readonly principal?: Principal;
  /** Signs on whose behalf; default: the local key, which is the right one. */
  readonly proofKey?: SigningKey;
  readonly role?: string;
  readonly execId?: string;
  /** Default: what the proxy says on its admin address. */
  readonly policyDigest?: string;
}

/** A private key of a running mesh, as only its owner can read it. */
export function keyOf(mesh: RunningMesh, name: 'runner' | 'local' | 'gateway'): SigningKey {
  return readSigningKey(keySetPaths(join(mesh.runtime, 'keys'))[name]);
}

/** An execution token that the runner signed with its real key. */
export async function executionToken(mesh: RunningMesh, says: TokenSays = {}): Promise<string> {
  const { principal = LOCAL_PRINCIPAL, role = 'analyst', execId = 'exec-forged' } = says;
  const proofKey = says.proofKey ?? keyOf(mesh, 'local');
  const assertion = await new AssertionSigner(proofKey).sign(principal);
  const { proof } = await new AssertionVerifier([publicIssuer(proofKey)]).verify(assertion);
  const { jwt } = await new ExecutionSigner(keyOf(mesh, 'runner')).sign({
    sandboxId: 'sbx-forged',
    execId,
    role,
    policyDigest: says.policyDigest ?? (await digestInForce(mesh)),
    proof,
    startedAt: Math.floor(Date.now() / 1_000),
    requestId: 'req-forged',
  });
  return jwt;
}

async function digestInForce({ ports }: RunningMesh): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${ports.proxy}/readyz`);
  return Object(await answer.json()).policyDigest;
}

/** Asks the running proxy for a datasource as a sidecar would. */
export function askAsSidecar(
  mesh: RunningMesh,
  jwt: string,
): Promise<{ status: number | undefined; code: unknown }> {
  return new Promise((resolve, reject) => {
    const sent = request({
      socketPath: join(mesh.runtime, 'proxy.sock'),
      path: 'http://http-example.outrider.internal/items',
      headers: { host: 'http-example.outrider.internal', 'proxy-authorization': `Bearer ${jwt}` },
    });
    sent.on('error', reject);
    sent.on('response', (response) => {
      response.resume();
      const code = response.headers['x-outrider-error'];
      response.on('end', () => resolve({ status: response.statusCode, code }));
    });
    sent.end();
  });
}
