import { setFlagsFromString } from 'node:v8';

/** By which factor V8 makes the space for new objects larger when much of it survives; its own default. */
const GROWTH = 2;

/**
 * From here on the space for new objects stays as it is. For the start of a part: loading code makes much that lives for a moment, for which V8 would
 * make that space 16 MiB large, resident, and keep it so in a process that has nothing to do.
 */
export function holdYoungGeneration(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
}

/** From here on it grows as the work wants it: held small it would cost a busy part a quarter of its processor time. */
export function releaseYoungGeneration(): void {
  setFlagsFromString(`--semi-space-growth-factor=${GROWTH}`);
}
