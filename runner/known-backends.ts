import type { Backend, BoxAsk } from './backends/backend.ts';
import type { KnownBackend } from './choose-backend.ts';

/** The configured backends and what keeps each from being used, as last looked. */
export class KnownBackends {
  readonly #backends: readonly Backend<BoxAsk>[];
  readonly #problems = new Map<string, string | undefined>();

  /** The first is the default. None counts as usable before it was looked at. */
  constructor(backends: readonly Backend<BoxAsk>[]) {
    this.#backends = backends;
    for (const { name } of backends) this.#problems.set(name, 'it was not tried yet');
  }

  get all(): readonly KnownBackend[] {
    return this.#backends.map(({ name, tier, images, limitsAddressSpace }) => ({
      name,
      tier,
      images,
      limitsAddressSpace,
      problem: this.#problems.get(name),
    }));
  }

  /** What keeps the default one from being used. */
  get problem(): string | undefined {
    return this.all[0]?.problem;
  }

  /** Those that cannot be used, with the reason. */
  get problems(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      this.all.flatMap(({ name, problem }) => (problem === undefined ? [] : [[name, problem]])),
    );
  }

  get default(): Backend<BoxAsk> | undefined {
    return this.#backends[0];
  }

  /** Really starts a box of each that is meant. Resolves to whether one has become usable. Never rejects. */
  async look(meant: (backend: KnownBackend) => boolean = () => true): Promise<boolean> {
    const looked = this.all.filter(meant).map(async ({ name, problem }) => {
      const now = await this.#backends.find((backend) => backend.name === name)?.probe();
      this.#problems.set(name, now);
      return problem !== undefined && now === undefined;
    });
    return (await Promise.all(looked)).includes(true);
  }
}
