/** When the next would be exactly on time: all that GCRA keeps of what was. Times are of a monotonic clock, in milliseconds. */
export interface Gcra {
  dueMs: number;
}

/** How long to wait until one more conforms; 0 where it does now. Does not count it. */
export function waitMs(state: Gcra, interval: number, burst: number, nowMs: number): number {
  // Only a rate that was slower until now can have left more: who raises a limit does not wait for the old one.
  state.dueMs = Math.min(state.dueMs, nowMs + interval * burst);
  return Math.max(0, state.dueMs - interval * (burst - 1) - nowMs);
}

/** The same where so many have been counted already that the burst may be overdrawn: until some of it is there again. */
export function debtMs(state: Gcra, interval: number, burst: number, nowMs: number): number {
  return Math.max(0, state.dueMs - interval * burst - nowMs);
}

/** Counts so many, whether they conform or not. */
export function count(state: Gcra, interval: number, amount: number, nowMs: number): void {
  state.dueMs = Math.max(state.dueMs, nowMs) + interval * amount;
}
