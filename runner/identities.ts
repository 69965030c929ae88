import { OutriderError } from '#core/errors';
import type { BoxIdentity } from './backends/backend.ts';

/** Host uids for sandboxes: as root one each out of a range, so that no two can touch each other; otherwise the runner's own. */
export interface Identities {
  /** @throws {OutriderError} QUOTA_EXCEEDED */
  take(): BoxIdentity;
  give(identity: BoxIdentity): void;
}

export function createIdentities(first: number, count: number): Identities {
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  if (uid !== 0) return { take: () => ({ uid, gid }), give: () => {} };
  // First in, first out: an id rests as long as possible before another sandbox gets it.
  const free = Array.from({ length: count }, (_, index) => first + index);
  return {
    take() {
      const next = free.shift();
      if (next === undefined)
        throw new OutriderError(
          'QUOTA_EXCEEDED',
          'every sandbox identity of this runner is in use',
          { retryAfterMs: 1_000 },
        );
      return { uid: next, gid: next };
    },
    give: ({ uid: used }) => void free.push(used),
  };
}
