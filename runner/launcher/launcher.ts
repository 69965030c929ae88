import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import type {
  Backend,
  BackendName,
  Box,
  BoxAsk,
  BoxCounters,
  BoxIdentity,
  ResourceLimits,
} from '../backends/backend.ts';
import type { Identities } from '../identities.ts';
import type { Described, Ended, Placed, Probed, Started } from './protocol.ts';
import { removeDirectory } from './remove.ts';

export interface LauncherDeps {
  readonly backends: readonly Backend[];
  readonly identities: Identities;
  /** Sandboxes have their directories here. */
  readonly directory: string;
  /** No box gets more, whatever the runner says. */
  readonly ceilings: ResourceLimits;
  /** Who makes sockets in those directories. */
  readonly runnerUid: number;
  readonly onEnded: (sandboxId: string, end: Ended) => void;
}

interface Place {
  readonly directory: string;
  readonly identity: BoxIdentity;
  /** Resolves to the box, once it is asked for. */
  box: Promise<Box> | undefined;
}

/** What has power over the host, behind the launcher's verbs: users, directories and boxes. Everything that it is told is checked. */
export class Launcher {
  readonly #deps: LauncherDeps;
  readonly #places = new Map<string, Place>();
  #closed = false;

  constructor(deps: LauncherDeps) {
    this.#deps = deps;
  }

  get backends(): readonly Described[] {
    return this.#deps.backends.map(({ name, images, limitsAddressSpace }) => ({
      name,
      images,
      limitsAddressSpace,
    }));
  }

  async probe(backend: BackendName): Promise<Probed> {
    return { problem: (await this.#backend(backend).probe()) ?? null };
  }

  /**
   * Takes a user and makes the directory in which the runner and the sidecar listen. It is the runner's; the box's user may enter
   * it, and a socket made in it belongs to that user's group.
   * @throws {OutriderError} INVALID_REQUEST, QUOTA_EXCEEDED, DRAINING
   */
  place(sandboxId: string): Placed {
    if (this.#closed) throw new OutriderError('DRAINING', 'the launcher is stopping');
    if (this.#places.has(sandboxId)) throw invalid('the sandbox has its place already');
    const identity = this.#deps.identities.take();
    const directory = join(this.#deps.directory, sandboxId);
    try {
      mkdirSync(directory, { mode: 0o700 });
      chownSync(directory, this.#deps.runnerUid, identity.gid);
      chmodSync(directory, 0o2750);
    } catch (error) {
      this.#deps.identities.give(identity);
      throw new OutriderError('SANDBOX_FAILED', "the sandbox's directory cannot be made", {
        cause: error,
      });
    }
    this.#places.set(sandboxId, { directory, identity, box: undefined });
    return { directory };
  }

  /** @throws {OutriderError} INVALID_REQUEST, BACKEND_UNAVAILABLE, IMAGE_NOT_ALLOWED, SANDBOX_FAILED, DRAINING */
  async start(backendName: BackendName, ask: BoxAsk): Promise<Started> {
    if (this.#closed) throw new OutriderError('DRAINING', 'the launcher is stopping');
    const place = this.#placeOf(ask.sandboxId);
    if (place.box) throw invalid('the sandbox has its box already');
    const backend = this.#backend(backendName);
    assertWithin(ask.limits, this.#deps.ceilings);
    if (ask.image !== '' && !backend.images.includes(ask.image))
      throw new OutriderError('IMAGE_NOT_ALLOWED', 'the image is not in the allowlist');
    const { directory: socketDirectory, identity } = place;
    place.box = backend.start({ ...ask, socketDirectory, identity });
    const box = await place.box;
    void box.ended.then(async () => {
      const counters = await box.counters();
      this.#deps.onEnded(ask.sandboxId, { diagnostics: box.diagnostics(), counters });
    });
    return { attestation: box.attestation, rlimits: box.rlimits };
  }

  /** Gives the box the weight of any other. */
  async settle(sandboxId: string): Promise<void> {
    (await this.#placeOf(sandboxId).box)?.settle();
  }

  /** Resolves when the end has begun. */
  async kill(sandboxId: string): Promise<void> {
    const box = await this.#placeOf(sandboxId).box?.catch(() => undefined);
    void box?.kill();
  }

  async counters(sandboxId: string): Promise<BoxCounters> {
    const box = await this.#placeOf(sandboxId).box;
    if (!box) throw invalid('the sandbox has no box');
    return box.counters();
  }

  /** Resolves when nothing of the sandbox is left. */
  async forget(sandboxId: string): Promise<void> {
    const place = this.#placeOf(sandboxId);
    const box = await place.box?.catch(() => undefined);
    await box?.kill();
    if (!this.#places.delete(sandboxId)) return; // another call was first
    await removeDirectory(place.directory);
    this.#deps.identities.give(place.identity); // only now: nothing that belongs to it is left
  }

  /** Ends everything; nothing new is started. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled([...this.#places.keys()].map((sandboxId) => this.forget(sandboxId)));
  }

  #placeOf(sandboxId: string): Place {
    const place = this.#places.get(sandboxId);
    if (!place) throw invalid('the sandbox has no place');
    return place;
  }

  #backend(name: BackendName): Backend {
    const backend = this.#deps.backends.find((candidate) => candidate.name === name);
    if (!backend)
      throw new OutriderError('BACKEND_UNAVAILABLE', `this runner has no backend "${name}"`);
    return backend;
  }
}

function assertWithin(limits: ResourceLimits, ceilings: ResourceLimits): void {
  for (const name of ['memoryBytes', 'cpuMillis', 'pids', 'diskBytes'] as const)
    if (limits[name] > ceilings[name])
      throw new OutriderError(
        'BACKEND_UNAVAILABLE',
        `${name} ${limits[name]} is more than this runner gives a sandbox, ${ceilings[name]}`,
      );
}

function invalid(message: string): OutriderError {
  return new OutriderError('INVALID_REQUEST', message);
}
