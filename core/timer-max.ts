/** Milliseconds, some 24 days: a timer of `node:timers` that is set to more fires at once. Whoever waits longer sets it again, or to this. */
export const TIMER_MAX_MS = 2 ** 31 - 1;
