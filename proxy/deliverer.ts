import { hash } from 'node:crypto';
import type { Identity } from './identify.ts';
import { EXCHANGE_ISSUER } from './token-exchange.ts';

/**
 * Who delivers the audit records of a sandbox: the runner that signs its tokens, or, where a token was exchanged, the token's user. An
 * exchanged token names any sandbox that its user asks for. SHA-256, since it is only ever compared.
 */
export function delivererOf({ execution, principal }: Identity): string {
  const { issuer, tenant, subject } = principal;
  const { issuer: signer } = execution;
  const who = signer === EXCHANGE_ISSUER ? [signer, issuer, tenant, subject] : [signer];
  return hash('sha256', JSON.stringify(who));
}
