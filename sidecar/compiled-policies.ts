import { createHash } from 'node:crypto';
import { compileRole, parseProjection, type RolePolicy } from '#policies';

/** Projections of roles and tenants that are in use at one time; more only cost compiling again. */
const KEPT_MAX = 64;

/** Compiles what roles may do. Execs of one role get the same compiled policy, which cannot change: only its first pays. */
export class CompiledPolicies {
  readonly #kept = new Map<string, RolePolicy>();

  /** `projection` as the runner sends it. @throws {OutriderError} POLICY_INVALID */
  compile(projection: Buffer): RolePolicy {
    const key = createHash('sha256').update(projection).digest('base64');
    const compiled = this.#kept.get(key) ?? compileRole(parseProjection(projection.toString()));
    this.#kept.delete(key);
    this.#kept.set(key, compiled);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= KEPT_MAX) break;
      this.#kept.delete(oldest);
    }
    return compiled;
  }
}
