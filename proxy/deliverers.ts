import { OutriderError } from '#core/errors';
import type { Identity } from './identify.ts';
import { EXCHANGE_ISSUER } from './token-exchange.ts';

/** As many as there are chains whose ends are known. */
const SANDBOXES_MAX = 50_000;

/**
 * Whose sandbox it is that audit records are delivered of: of the runner that signed the token of the first delivery, or, where that was an
 * exchanged token, of its user. An exchanged token names any sandbox that its user asks for. Known since the start of this
 * process, of the 50 000 sandboxes that delivered last.
 */
export class Deliverers {
  readonly #max: number;
  readonly #owners = new Map<string, string>();

  constructor(max = SANDBOXES_MAX) {
    this.#max = max;
  }

  /** @throws {OutriderError} EGRESS_DENIED where the sandbox is another's */
  assertOwn(identity: Identity): void {
    const owner = this.#owners.get(identity.execution.sandboxId);
    if (owner !== undefined && owner !== ownerOf(identity))
      throw new OutriderError(
        'EGRESS_DENIED',
        'the records of this sandbox are delivered by another',
      );
  }

  /** Notes a delivery that was stored. */
  delivered(identity: Identity): void {
    const { sandboxId } = identity.execution;
    this.#owners.delete(sandboxId);
    this.#owners.set(sandboxId, ownerOf(identity));
    const [oldest] = this.#owners.keys();
    if (this.#owners.size > this.#max && oldest !== undefined) this.#owners.delete(oldest);
  }
}

function ownerOf({ execution, principal }: Identity): string {
  const { issuer, tenant, subject } = principal;
  const { issuer: signer } = execution;
  return JSON.stringify(signer === EXCHANGE_ISSUER ? [signer, issuer, tenant, subject] : [signer]);
}
