import { setTimeout as sleep } from 'node:timers/promises';
import { type Address, isLoopback } from './address.ts';
import { type Field, formatDuration, parseDurationMs } from './config.ts';

/** Balancers commonly look every second. */
const BEYOND_LOOPBACK_MS = 2_000;
/** Who still sends requests has not seen it yet; after so many looks without one, everybody has. Looks and not a time: a process that gets no turn sees no requests either. */
const QUIET_LOOKS = 10;
const LOOK_MS = 50;

/** The key `drainNotice` of a part that others spread requests over. */
export const drainNotice: Field<number | undefined> = {
  doc: 'How long at least, after a signal to stop, connections are still taken while /readyz says 503 and each answer that its connection ends; then until no request has come for half a second, or half of drainTimeout is over. Default 2s; on loopback 0s, which is not at all.',
  kind: 'duration (ms, s, m, h)',
  default: undefined,
  parse: parseDurationMs,
  show: (ms) => (ms === undefined ? 'none' : formatDuration(ms)),
};

/**
 * Waits until those that send requests have seen that this part will stop; on loopback nobody balances, unless a time is given.
 * `requestedAt`: when the last one came, by `performance.now()`. Resolves to the milliseconds that are left for calls under way.
 */
export async function giveNotice(
  config: {
    readonly listen: Address;
    readonly drainNotice: number | undefined;
    readonly drainTimeout: number;
  },
  requestedAt: () => number,
): Promise<number> {
  const { listen, drainTimeout } = config;
  const noticeMs = config.drainNotice ?? (isLoopback(listen) ? 0 : BEYOND_LOOPBACK_MS);
  const from = performance.now();
  const elapsed = () => performance.now() - from;
  if (noticeMs > 0) {
    await sleep(noticeMs);
    for (let quiet = 0; quiet < QUIET_LOOKS && elapsed() < drainTimeout / 2; ) {
      const last = requestedAt();
      await sleep(LOOK_MS);
      quiet = requestedAt() === last ? quiet + 1 : 0;
    }
  }
  return Math.max(0, drainTimeout - elapsed());
}
