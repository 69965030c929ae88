import { readFile } from 'node:fs/promises';
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

/**
 * Callers by the principal assertion in `authorization`. On the local unix socket, which only its owner can open, a call without
 * one is the local principal's: its assertion is in a file that the supervisor renews, so that this process cannot make up
 * another.
 */
export function callersBy(
  verifier: AssertionVerifier,
  localAssertionFile: string | undefined,
): IdentifyCaller {
  return async ({ bearer }) => {
    const jwt = bearer ?? (await localAssertion(localAssertionFile));
    return callerOf(await verifier.verify(jwt));
  };
}

function callerOf({ principal, role, proof }: Assertion): Caller {
  return { principal, role, proof };
}

async function localAssertion(file: string | undefined): Promise<string> {
  if (file === undefined)
    throw new OutriderError('UNAUTHENTICATED', 'send a principal assertion as bearer token');
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    throw new OutriderError(
      'UNAUTHENTICATED',
      'no local principal: start the mesh with `outrider up`, or send a principal assertion',
      { cause: error },
    );
  }
}
