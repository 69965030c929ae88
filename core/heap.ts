import { setFlagsFromString } from 'node:v8';

/**
 * What `node` is told when a part is started, because it can be told only then: the space for new objects has at most 8 MiB, not 16. A
 * part works as fast with it, and is some 40 MiB smaller after it has been busy.
 */
export const HEAP_FLAGS: readonly string[] = ['--max-semi-space-size=8'];

/** By how much of itself the heap may grow before V8 collects what is dead in it; by default it would double and more. */
const GROWING_PERCENT = 30;
/** By which factor V8 makes the space for new objects larger when much of it survives; its own default. */
const YOUNG_FACTOR = 2;

/**
 * Those of Node's own modules that every part uses, with what they bring. V8 has them compiled in advance, but only for the flags that
 * it began with: loaded after one of them has changed they take 50 ms more.
 */
const BUILT_IN = ['cluster', 'crypto', 'dns', 'http2', 'perf_hooks', 'worker_threads', 'zlib'];

/**
 * From here on the heap follows what is alive in it, and the space for new objects stays as it is. For the start of a part: loading
 * code makes much that lives for a moment, for which that space would be made large, resident, and kept so in a process that
 * has nothing to do. Loads what Node brings first.
 */
export function holdHeap(): void {
  for (const name of BUILT_IN) process.getBuiltinModule(`node:${name}`);
  setFlagsFromString(`--heap-growing-percent=${GROWING_PERCENT}`);
  setFlagsFromString('--semi-space-growth-factor=1');
}

/** From here on that space grows as the work wants it: held small it would cost a busy part a quarter of its processor time. */
export function releaseHeap(): void {
  setFlagsFromString(`--semi-space-growth-factor=${YOUNG_FACTOR}`);
}

/**
 * How much of what it calls V8 puts into a function that it optimises: twice as much as by default. A request's way is many small functions
 * in a row; a sidecar and a proxy take about a twentieth less processor time for one with it.
 */
export const INLINING: readonly string[] = [
  '--max-inlined-bytecode-size=920',
  '--max-inlined-bytecode-size-cumulative=1840',
  '--max-inlined-bytecode-size-small=60',
];

/** From here on what runs often is compiled so. For a part that answers requests; after `holdHeap`, which loads what Node brings. */
export function inlineMore(): void {
  for (const flag of INLINING) setFlagsFromString(flag);
}

/**
 * After how many calls V8 compiles a function to be faster: 400 and 3 000 by default, each 500 after the last thing that was new in it. A part that
 * is asked for little at a time would go on for minutes in code that is a quarter slower.
 */
export const COMPILING_SOONER: readonly string[] = [
  '--invocation-count-for-maglev=200',
  '--invocation-count-for-turbofan=1000',
  '--minimum-invocations-after-ic-update=300',
];

/** From here on what runs often is compiled so. For a part that has started: what runs at the start alone is not worth it. */
export function compileSooner(): void {
  for (const flag of COMPILING_SOONER) setFlagsFromString(flag);
}

/** Those that are on by default: the second in every Node from V8 13 on. */
const COMPILERS = Number.parseInt(process.versions.v8, 10) < 13 ? ['opt'] : ['opt', 'maglev'];

/**
 * From here on nothing is compiled to be faster. For the start of a process of which a machine has one for each sandbox: little in it
 * runs often enough to repay that, and the compilers' own code is 10 MiB that come into memory when they are first used.
 */
export function holdCompilers(): void {
  for (const name of COMPILERS) setFlagsFromString(`--no-${name}`);
}

/** From here on what runs often is compiled again, as V8 does by default. */
export function releaseCompilers(): void {
  for (const name of COMPILERS) setFlagsFromString(`--${name}`);
}
