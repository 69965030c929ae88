import { createHash } from 'node:crypto';

/**
 * These ids in the order in which they are to have `key`: the same wherever it is asked, and when one is gone only its own keys
 * move (rendezvous hashing).
 */
export function rendezvous(key: string, ids: readonly string[]): string[] {
  const weight = (id: string) =>
    createHash('sha256')
      .update(JSON.stringify([id, key]))
      .digest()
      .readUIntBE(0, 6);
  return ids
    .map((id) => ({ id, weight: weight(id) }))
    .toSorted((a, b) => b.weight - a.weight)
    .map(({ id }) => id);
}
