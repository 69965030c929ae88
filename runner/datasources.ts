import { isDeepStrictEqual } from 'node:util';
import { OutriderError } from '#core/errors';
import { principalKey } from '#core/principal';
import { chooseRole, grantedDatasources, type ListedDatasource, projectRole } from '#policies';
import type { PolicyInForce } from '#policystore';
import type { Caller } from './callers.ts';

/** A rule that expires changes the list without a change of policy. */
const LOOK_EVERY_MS = 60_000;
const WATCHERS_MAX = 64;

interface Watcher {
  readonly owner: string;
  readonly look: () => void;
}

/** Tells callers which datasources their role may ask, and tells them again when that has changed. */
export class Datasources {
  readonly #policies: { readonly current: Pick<PolicyInForce, 'set'> };
  readonly #watchers = new Set<Watcher>();
  #closed = false;

  constructor(policies: { readonly current: Pick<PolicyInForce, 'set'> }) {
    this.#policies = policies;
  }

  /** Looks at once: the policies have changed. */
  changed(): void {
    for (const { look } of this.#watchers) look();
  }

  /** Ends every watch. */
  close(): void {
    this.#closed = true;
    this.changed();
  }

  /**
   * The list as it is, and then each that differs from the last, within a minute. A watcher that reads slowly passes over what has
   * changed again meanwhile. Ends when `signal` is aborted.
   * @throws {OutriderError} ROLE_DENIED, ROLE_AMBIGUOUS; QUOTA_EXCEEDED: 64 watches of one caller; DRAINING
   */
  async *watch(
    caller: Caller,
    asked: string,
    signal: AbortSignal,
  ): AsyncGenerator<readonly ListedDatasource[], void, undefined> {
    let told = this.#listOf(caller, asked);
    let wake = (): void => {};
    const leave = this.#enter(principalKey(caller.principal), () => wake());
    signal.addEventListener('abort', () => wake(), { once: true });
    try {
      yield told;
      while (!signal.aborted) {
        if (this.#closed) throw new OutriderError('DRAINING', 'the runner is stopping');
        const list = this.#listNow(caller, asked);
        if (isDeepStrictEqual(list, told)) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        } else {
          told = list;
          yield list;
        }
      }
    } finally {
      leave();
    }
  }

  #enter(owner: string, look: () => void): () => void {
    if ([...this.#watchers].filter((one) => one.owner === owner).length >= WATCHERS_MAX)
      throw new OutriderError('QUOTA_EXCEEDED', `you watch ${WATCHERS_MAX} times already`, {
        retryAfterMs: 1_000,
      });
    const watcher = { owner, look };
    this.#watchers.add(watcher);
    const timer = setInterval(look, LOOK_EVERY_MS).unref();
    return () => {
      clearInterval(timer);
      this.#watchers.delete(watcher);
    };
  }

  /** As a request of the caller's would find it. @throws {OutriderError} ROLE_DENIED, ROLE_AMBIGUOUS */
  #listOf({ principal, role: granted }: Caller, asked: string): ListedDatasource[] {
    if (granted !== '' && asked !== '' && asked !== granted)
      throw new OutriderError('ROLE_DENIED', `the call was authorised for the role ${granted}`);
    const { set } = this.#policies.current;
    const nowMs = Date.now();
    const role = chooseRole(set, principal, granted || asked, nowMs).metadata.name;
    return grantedDatasources(set, projectRole(set, role, principal.tenant), nowMs);
  }

  /** Nothing where the role is gone: that is a change like any other. */
  #listNow(caller: Caller, asked: string): ListedDatasource[] {
    try {
      return this.#listOf(caller, asked);
    } catch (error) {
      if (error instanceof OutriderError) return [];
      throw error;
    }
  }
}
