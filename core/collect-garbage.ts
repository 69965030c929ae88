import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Collects all garbage of this process and gives its memory back, now: for one that was started ahead and waits. What starting it left
 * behind, a third of it, would otherwise stay for as long. Takes some 10 ms.
 */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  const everything = { type: 'major', execution: 'sync', flavor: 'last-resort' };
  if (typeof collect === 'function') collect(everything);
}
