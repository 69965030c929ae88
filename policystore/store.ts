import { setTimeout as sleep } from 'node:timers/promises';
import { OutriderError, toOutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import type { PolicyCanary, PolicyInForce, PolicyReload } from './in-force.ts';
import { loadFiles } from './load.ts';
import { createPolicyMeasures, type PolicyMeasures } from './measures.ts';
import type { PolicySource, ReleasedFiles } from './release.ts';

export interface PolicyStoreOptions {
  readonly source: PolicySource;
  readonly log: Logger;
  readonly metrics?: Metrics | undefined;
  /** What whoever opens it asks of a policy beyond being sound. @throws {OutriderError} POLICY_INVALID: it does not come into force */
  readonly assertUsable?: ((policy: PolicyInForce) => void) | undefined;
  /** Called after each reload that changed something, with the new policy already in force. */
  readonly onChange?: ((current: PolicyInForce) => void) | undefined;
  /** For the audit: the policy at the start, each change, and each refusal. */
  readonly onRecord?: ((change: PolicyReload) => void) | undefined;
  /** From 0 up to 1, evenly; which new sandboxes are the canary's. Default `Math.random`. */
  readonly random?: () => number;
}

/** How often the source is looked at. Two looks that agree come before a reload, so that half-written files are left alone. */
const POLL_MS = 250;
/** Longer than any exec may run. */
const REMEMBER_MS = 3_600_000;
const REMEMBER_MAX = 10_000;

/**
 * One policy, kept current; while a canary is tried, two. A change is read within a second, checked and tested as a whole, and
 * then takes the old one's place at once; on any error the old one stays, and the log, `outrider_policy_reloads_total` and
 * `/readyz` say so.
 */
export class PolicyStore {
  readonly #options: PolicyStoreOptions;
  readonly #measures: PolicyMeasures;
  readonly #random: () => number;
  readonly #stop = new AbortController();
  #current: PolicyInForce;
  #canary: PolicyCanary | undefined;
  #since = new Date();
  /** Digests that were in force, and since when each no longer is. */
  readonly #superseded = new Map<string, number>();
  #loadedSignature: string;
  #failure: string | undefined;
  #watching: Promise<void> = Promise.resolve();

  private constructor(options: PolicyStoreOptions, loaded: Loaded, signature: string) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#current = loaded.current;
    this.#canary = loaded.canary;
    this.#loadedSignature = signature;
    this.#measures = createPolicyMeasures(options.metrics);
    this.#announce(loaded);
  }

  /**
   * Loads what the source has and watches it until `close`.
   * @throws {OutriderError} POLICY_INVALID where it cannot be loaded now
   */
  static async open(options: PolicyStoreOptions): Promise<PolicyStore> {
    const signature = await options.source.signature();
    const store = new PolicyStore(options, await load(options), signature);
    store.#watching = store.#watch();
    return store;
  }

  /** What every sandbox has that is not of the canary. */
  get current(): PolicyInForce {
    return this.#current;
  }

  get canary(): PolicyCanary | undefined {
    return this.#canary;
  }

  /** Every policy that new sandboxes get now: the current one, and then the canary's. */
  get inForce(): readonly PolicyInForce[] {
    return this.#canary ? [this.#current, this.#canary.policy] : [this.#current];
  }

  /** The policy of a digest, where it is in force. */
  ofDigest(digest: string): PolicyInForce | undefined {
    return this.inForce.find((policy) => policy.digest === digest);
  }

  /** The policy of a new sandbox: mostly the current one, and for the canary's share the canary's. */
  forNewSandbox(): PolicyInForce {
    const canary = this.#canary;
    return canary && this.#random() < canary.share ? canary.policy : this.#current;
  }

  /**
   * Whether a policy is in force or was within the last hour: a running exec keeps naming the policy of its claim, however
   * often the policy has changed since.
   */
  knows(digest: string): boolean {
    return this.ofDigest(digest) !== undefined || this.#superseded.has(digest);
  }

  /** Why what the source has now could not take the current policy's place; undefined where it has. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** When what is in force came into force in this process. */
  get since(): Date {
    return this.#since;
  }

  /** Stops watching; what is in force stays readable. */
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

  /** A source that cannot be read is one state of it, too. */
  async #signature(): Promise<string> {
    try {
      return await this.#options.source.signature();
    } catch (error) {
      return `unreadable: ${toOutriderError(error).message}`;
    }
  }

  async #reload(signature: string): Promise<void> {
    try {
      const loaded = await load(this.#options, async () => {
        // It changed while it was read: what was read may be a mixture of two states.
        return (await this.#signature()) === signature;
      });
      if (!loaded) return;
      this.#loadedSignature = signature;
      this.#failure = undefined;
      this.#measures.reloaded('ok');
      if (identityOf(loaded) !== identityOf(this)) this.#swap(loaded);
    } catch (error) {
      // Descriptors run out, disks stumble: what could not be read may be readable at the next look, though no file has changed.
      if (!isUnread(error)) this.#loadedSignature = signature;
      else if (this.#failure === problemOf(error)) return;
      this.#refuse(error);
    }
  }

  #swap(loaded: Loaded): void {
    const previous = this.inForce.map(({ digest }) => digest);
    this.#current = loaded.current;
    this.#canary = loaded.canary;
    this.#since = new Date();
    for (const digest of previous) this.#supersede(digest);
    this.#options.log.info('policy reloaded', {
      detail: { ...summary(loaded), previous: previous.join(', ') },
    });
    this.#announce(loaded);
    this.#options.onChange?.(loaded.current);
  }

  #announce(loaded: Loaded): void {
    this.#measures.inForce(loaded.current, loaded.canary);
    this.#options.onRecord?.({ result: 'loaded', ...loaded });
  }

  #refuse(error: unknown): void {
    const { log, onRecord } = this.#options;
    this.#failure = problemOf(error);
    this.#measures.reloaded('failed');
    log.error('policy reload failed, the old policy stays', {
      error,
      detail: { problems: this.#failure, digest: this.#current.digest },
    });
    onRecord?.({ result: 'refused', problem: this.#failure, current: this.#current });
  }

  /** Digests that are still in force may be remembered here, too: `ofDigest` is asked first. */
  #supersede(digest: string): void {
    const now = Date.now();
    this.#superseded.delete(digest); // to the end: the oldest stand first
    this.#superseded.set(digest, now);
    for (const [old, since] of this.#superseded) {
      if (now - since < REMEMBER_MS && this.#superseded.size <= REMEMBER_MAX) break;
      this.#superseded.delete(old);
    }
  }
}

/** What may be said of it in `/readyz` and in the audit. */
function problemOf(error: unknown): string {
  return error instanceof OutriderError ? error.message : 'the policy could not be loaded';
}

/** Whether the system kept the source from being read, rather than something that stands in it. */
function isUnread(error: unknown): boolean {
  const { cause = error } = error instanceof OutriderError ? error : {};
  return cause instanceof Error && 'errno' in cause;
}

/** What a source had, found sound. */
interface Loaded {
  readonly current: PolicyInForce;
  readonly canary?: PolicyCanary;
}

type Loading = Pick<PolicyStoreOptions, 'source' | 'assertUsable'>;

async function load(from: Loading): Promise<Loaded>;
async function load(from: Loading, unchanged: () => Promise<boolean>): Promise<Loaded | undefined>;
async function load(
  { source, assertUsable = () => {} }: Loading,
  unchanged?: () => Promise<boolean>,
): Promise<Loaded | undefined> {
  const { stable, canary, accept } = await source.read();
  const current = loadReleased(stable);
  const loaded: Loaded = canary
    ? { current, canary: { policy: loadReleased(canary), share: canary.share } }
    : { current };
  if (unchanged && !(await unchanged())) return undefined;
  for (const policy of [current, ...(loaded.canary ? [loaded.canary.policy] : [])])
    assertUsable(policy);
  accept();
  return loaded;
}

/** @throws {OutriderError} POLICY_INVALID */
function loadReleased({ files, revision, digest }: ReleasedFiles): PolicyInForce {
  const loaded = loadFiles(files);
  if (digest !== null && loaded.digest !== digest)
    throw new OutriderError(
      'POLICY_INVALID',
      'the documents of the bundle do not have the digest that it names: make it with the version that is to load it',
    );
  return { ...loaded, revision };
}

/** What makes one state of a policy another than the last. */
function identityOf({ current, canary }: Loaded | PolicyStore): string {
  const of = ({ digest, revision }: PolicyInForce) => [digest, revision?.serial, revision?.commit];
  return JSON.stringify([of(current), canary && [...of(canary.policy), canary.share]]);
}

function summary({ current, canary }: Loaded): Record<string, string | number> {
  const { digest, revision } = current;
  return {
    digest,
    ...(revision ? { serial: revision.serial, commit: revision.commit } : {}),
    ...(canary ? { canary: canary.policy.digest, share: canary.share } : {}),
  };
}
