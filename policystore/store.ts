import { setTimeout as sleep } from 'node:timers/promises';
import { OutriderError, toOutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import type { PolicyFiles } from './files.ts';
import { type LoadedPolicy, loadFiles } from './load.ts';

export interface PolicyStoreOptions {
  readonly files: PolicyFiles;
  readonly log: Logger;
  readonly metrics?: Metrics | undefined;
  /** Called after each reload that changed something, with the new policy already current. */
  readonly onChange?: ((loaded: LoadedPolicy) => void) | undefined;
}

/** How often the files are looked at. Two looks that agree come before a reload, so that half-written files are left alone. */
const POLL_MS = 250;
/** Longer than any exec may run. */
const REMEMBER_MS = 3_600_000;
const REMEMBER_MAX = 10_000;

/**
 * One policy, kept current. A change is read within a second, checked and tested as a whole, and then
 * takes the old one's place at once; on any error the old one stays, and the log and `outrider_policy_reloads_total` say so.
 */
export class PolicyStore {
  readonly #options: PolicyStoreOptions;
  readonly #count: (result: 'ok' | 'failed') => void;
  readonly #show: (loaded: LoadedPolicy) => void;
  readonly #stop = new AbortController();
  #current: LoadedPolicy;
  /** Digests that were current, and since when each no longer is. */
  readonly #superseded = new Map<string, number>();
  #loadedSignature: string;
  #failure: string | undefined;
  #watching: Promise<void> = Promise.resolve();

  private constructor(options: PolicyStoreOptions, loaded: LoadedPolicy, signature: string) {
    this.#options = options;
    this.#current = loaded;
    this.#loadedSignature = signature;
    const reloads = options.metrics?.counter(
      'outrider_policy_reloads_total',
      'Policy reloads, by result',
      ['result'],
    );
    const info = options.metrics?.gauge('outrider_policy_info', 'The active policy', ['digest']);
    this.#count = (result) => reloads?.inc({ result });
    this.#show = ({ digest }) => {
      info?.reset();
      info?.set({ digest }, 1);
    };
    this.#show(loaded);
  }

  /**
   * Loads the files and watches them until `close`.
   * @throws {OutriderError} POLICY_INVALID where it cannot be loaded now
   */
  static async open(options: PolicyStoreOptions): Promise<PolicyStore> {
    const signature = await options.files.signature();
    const store = new PolicyStore(options, loadFiles(await options.files.read()), signature);
    store.#watching = store.#watch();
    return store;
  }

  get current(): LoadedPolicy {
    return this.#current;
  }

  /**
   * Whether a policy set is the current one or was it within the last hour: a running exec keeps naming the set of its claim,
   * however often the policy has changed since.
   */
  knows(digest: string): boolean {
    return digest === this.#current.digest || this.#superseded.has(digest);
  }

  /** Why the files as they are now could not take the current policy's place; undefined where they have. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Stops watching; the current policy stays readable. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#watching;
  }

  async #watch(): Promise<void> {
    let last = this.#loadedSignature;
    while (await this.#pause()) {
      const seen = await this.#signature();
      if (seen === last && seen !== this.#loadedSignature) await this.#reload(seen);
      last = seen;
    }
  }

  async #pause(): Promise<boolean> {
    await sleep(POLL_MS, undefined, { signal: this.#stop.signal, ref: false }).catch(
      () => undefined,
    );
    return !this.#stop.signal.aborted;
  }

  /** Files that cannot be read are one state of them, too. */
  async #signature(): Promise<string> {
    try {
      return await this.#options.files.signature();
    } catch (error) {
      return `unreadable: ${toOutriderError(error).message}`;
    }
  }

  async #reload(signature: string): Promise<void> {
    const { files, log, onChange } = this.#options;
    const loaded = await this.#load(files, signature);
    if (!loaded || loaded.digest === this.#current.digest) return;
    const previous = this.#current.digest;
    this.#supersede(previous);
    this.#current = loaded;
    this.#show(loaded);
    log.info('policy reloaded', {
      detail: { digest: loaded.digest, previous },
    });
    onChange?.(loaded);
  }

  #supersede(digest: string): void {
    const now = Date.now();
    this.#superseded.delete(digest); // to the end: the oldest stand first
    this.#superseded.set(digest, now);
    for (const [old, since] of this.#superseded) {
      if (now - since < REMEMBER_MS && this.#superseded.size <= REMEMBER_MAX) break;
      this.#superseded.delete(old);
    }
  }

  async #load(files: PolicyFiles, signature: string): Promise<LoadedPolicy | undefined> {
    const { log } = this.#options;
    try {
      const loaded = loadFiles(await files.read());
      // The files changed while they were read: what was read may be a mixture of two states.
      if ((await this.#signature()) !== signature) return undefined;
      this.#loadedSignature = signature;
      this.#failure = undefined;
      this.#count('ok');
      return loaded;
    } catch (error) {
      this.#loadedSignature = signature;
      this.#failure =
        error instanceof OutriderError ? error.message : 'the policy could not be loaded';
      this.#count('failed');
      log.error('policy reload failed, the old policy stays', {
        error,
        detail: { problems: this.#failure, digest: this.#current.digest },
      });
      return undefined;
    }
  }
}
