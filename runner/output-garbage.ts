import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** So much output is let through before its remains are cleared away: a few times what of one program can be on its way at once. */
const CLEAR_EVERY_BYTES = 2 ** 20;

/**
 * Counts output that has passed through this process, and has what is left of it cleared away in time. V8 sees of each piece only its
 * small handle: left alone it lets 40 MiB and more of them lie before it looks, which a slow reader of a fast program would see as
 * this process growing. Clearing what is young takes well under a millisecond, and none of it is older.
 */
export function outputPassed(bytes: number): void {
  passed += bytes;
  if (passed < CLEAR_EVERY_BYTES) return;
  passed = 0;
  collectYoung ??= youngCollector();
  collectYoung();
}

let passed = 0;
let collectYoung: (() => void) | undefined;

/** V8's own, which is there for those who ask for it by a flag: https://nodejs.org/api/globals.html#gc */
function youngCollector(): () => void {
  setFlagsFromString('--expose-gc');
  const gc: unknown = runInNewContext('gc');
  setFlagsFromString('--no-expose-gc'); // no other code gets it
  if (typeof gc !== 'function') return () => {}; // it grows, and works
  return () => void Reflect.apply(gc, undefined, [{ type: 'minor', execution: 'sync' }]);
}
