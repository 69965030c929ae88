export { quantile } from '../test/support/quantile.ts';

/** Milliseconds that something took. */
export async function timed(run: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await run();
  return performance.now() - from;
}

/** Resident memory of a process in MiB. */
export function rssMib(status: string): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024;
}
