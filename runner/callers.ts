import { readFileSync } from 'node:fs';
import { OutriderError } from '#core/errors';
import type { CallContext } from '#core/grpc';
import type { Principal } from '#core/principal';
import type { Assertion, AssertionVerifier } from '#core/tokens';

/** A caller whose identity somebody else has signed. */
export interface Caller {
  readonly principal: Principal;
  /** The role that the gateway authorised; empty where the caller may choose. */
  readonly role: string;
  /** Goes into execution tokens. */
  readonly proof: string;
}

/** @throws {OutriderError} UNAUTHENTICATED */
export type IdentifyCaller = (context: CallContext) => Promise<Caller>;

/** What the gateway authorised for one role touches nothing of another. @throws {OutriderError} ROLE_DENIED */
export function assertRole(caller: Caller, role: string): void {
  if (caller.role !== '' && caller.role !== role)
    throw new OutriderError('ROLE_DENIED', `it belongs to the role ${role}`);
}

/** A verified assertion is taken for so long without being verified again, and never past its end. */
const VERIFIED_MS = 30_000;
const VERIFIED_MAX = 1_024;

/**
 * Callers by the principal assertion in `authorization`. On the local unix socket, which only its owner can open, a call without
 * one is the local principal's: its assertion is in a file that the supervisor renews, so that this process cannot make up
 * another.
 */
export function callersBy(
  verifier: AssertionVerifier,
  localAssertionFile: string | undefined,
  now: () => number = () => Date.now(),
): IdentifyCaller {
  // By the token's text: the verifier takes only the one spelling of a token, so a look-up that finds something was verified.
  const verified = new Map<string, { readonly caller: Caller; readonly untilMs: number }>();
  return async ({ bearer }) => {
    const jwt = bearer ?? localAssertion(localAssertionFile);
    const nowMs = now();
    const known = verified.get(jwt);
    if (known && nowMs < known.untilMs) return known.caller;
    const assertion = await verifier.verify(jwt);
    const caller = callerOf(assertion);
    const untilMs = Math.min(nowMs + VERIFIED_MS, assertion.expiresAt * 1000);
    verified.delete(jwt);
    verified.set(jwt, { caller, untilMs });
    for (const oldest of verified.keys()) {
      if (verified.size <= VERIFIED_MAX) break;
      verified.delete(oldest);
    }
    return caller;
  };
}

function callerOf({ principal, role, proof }: Assertion): Caller {
  return { principal, role, proof };
}

/** Read at once: a few hundred bytes that are on the way to a program's first. */
function localAssertion(file: string | undefined): string {
  if (file === undefined)
    throw new OutriderError('UNAUTHENTICATED', 'send a principal assertion as bearer token');
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new OutriderError(
      'UNAUTHENTICATED',
      'no local principal: start the mesh with `outrider up`, or send a principal assertion',
      { cause: error },
    );
  }
}
