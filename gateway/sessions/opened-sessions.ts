import type { Principal } from '#core/principal';
import type { KeyRing } from './key-ring.ts';

/** About a megabyte. */
const OPENED_MAX = 1_024;

interface Opened<S> {
  readonly session: S;
  readonly principal: Principal;
  readonly ring: KeyRing;
}

/**
 * Sessions whose ids were opened a moment ago, the last 1 024: opening one again costs as much as the rest of a call. Found only for the
 * principal that it was opened for, and only while the keys are those that opened it. Nothing is lost with it: the id holds the session.
 */
export class OpenedSessions<S extends { readonly id: string }> {
  readonly #known = new Map<string, Opened<S>>();

  find(id: string, { issuer, tenant, subject }: Principal, ring: KeyRing): S | undefined {
    const found = this.#known.get(id);
    if (!found || found.ring !== ring) return undefined;
    const { principal } = found;
    const same =
      principal.issuer === issuer && principal.tenant === tenant && principal.subject === subject;
    return same ? found.session : undefined;
  }

  note(session: S, principal: Principal, ring: KeyRing): S {
    this.#known.delete(session.id);
    this.#known.set(session.id, { session, principal, ring });
    const [oldest] = this.#known.keys();
    if (this.#known.size > OPENED_MAX && oldest !== undefined) this.#known.delete(oldest);
    return session;
  }
}
