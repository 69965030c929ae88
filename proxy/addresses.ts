import {
  addressRefusal,
  type DatasourceGrant,
  formatIp,
  type Permit,
  REASONS,
  type TokenEndpointGrant,
} from '#policies';
import { refused } from './refusal.ts';

/** Addresses that may be dialled for one permit. Only `check` makes them, and `dial` takes nothing else. */
export class CheckedAddresses {
  /** As text, in the order in which they are tried. */
  readonly texts: readonly string[];

  /** Of what each datasource's name led to last: a grant decides the same about the same answer. */
  static readonly #lately = new WeakMap<
    DatasourceGrant,
    { readonly of: readonly Uint8Array[]; readonly checked: CheckedAddresses }
  >();

  private constructor(texts: readonly string[]) {
    this.texts = texts;
  }

  /**
   * Every address decided on its 16 bytes; one that is forbidden refuses them all, since a name that also leads there is not
   * to be trusted with the others. The answer does not say which address it was.
   * @throws {OutriderError} EGRESS_DENIED
   */
  static check(
    grant: Permit | DatasourceGrant | TokenEndpointGrant,
    addresses: readonly Uint8Array[],
  ): CheckedAddresses {
    if (!('datasource' in grant)) return CheckedAddresses.#check(grant, addresses);
    const lately = CheckedAddresses.#lately.get(grant);
    if (lately?.of === addresses) return lately.checked;
    const checked = CheckedAddresses.#check(grant, addresses);
    CheckedAddresses.#lately.set(grant, { of: addresses, checked });
    return checked;
  }

  static #check(
    grant: Permit | DatasourceGrant | TokenEndpointGrant,
    addresses: readonly Uint8Array[],
  ): CheckedAddresses {
    for (const address of addresses) {
      const reason = addressRefusal(grant, address);
      if (reason) throw refused('EGRESS_DENIED', REASONS[reason].text, reason);
    }
    // Sorted, so that servers which shuffle their answers do not make a new pool each time; IPv4 first.
    const texts = addresses.map(formatIp).toSorted();
    const isV6 = (text: string) => text.includes(':');
    return new CheckedAddresses([...texts.filter((text) => !isV6(text)), ...texts.filter(isV6)]);
  }
}
