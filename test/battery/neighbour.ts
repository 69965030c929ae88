import type { Seen, World } from './world.ts';

/** A neighbour is measured for so long before the attack; where it was slow meanwhile, for as long again behind it. */
const CALM_MS = 1_000;
const PAUSE_MS = 8;
const TIMES = 6;

/**
 * What a second sandbox has to complain of while the first one does something: that its requests are slower than `p99Max` milliseconds.
 * It is measured again, some times, where they are: a machine has other work, too, and a slow sidecar is slow every time.
 */
export async function neighbourProblems(
  world: World,
  attack: () => Promise<unknown>,
  p99Max: number,
): Promise<string[]> {
  const told: string[] = [];
  for (let time = 0; time < TIMES; time++) {
    const before = p99(await asked(world, sleepMs(CALM_MS)));
    const attacked = attack();
    const times = await asked(world, attacked);
    await attacked;
    const seen = p99(times);
    if (seen <= Math.max(p99Max, 5 * before)) return [];
    const calm = Math.max(before, p99(await asked(world, sleepMs(times.length * 2 * PAUSE_MS))));
    if (seen <= 5 * calm) return [];
    told.push(
      `${Math.round(seen)} ms (${Math.round(calm)} ms without) of ${times.length} requests`,
    );
  }
  return [`a neighbour's p99 was ${told.join(', then ')}`];
}

/** Whether one of the reasons was recorded; nothing is asked for where there is none. */
export function reasonProblems(seen: readonly Seen[], wanted: readonly string[]): string[] {
  // Of many refusals the rest is one record, which names their reasons.
  const reasons = seen.flatMap(({ sidecar }) =>
    sidecar.flatMap(({ reason, detail }) =>
      reason === 'refusal_flood'
        ? (String(detail).match(/[a-z]\w*(?= \d)/g) ?? [])
        : [String(reason)],
    ),
  );
  if (wanted.length === 0 || wanted.some((reason) => reasons.includes(reason))) return [];
  const recorded = [...new Set(reasons)].join() || 'nothing';
  return [`expected the reason ${wanted.join(' or ')}, recorded ${recorded}`];
}

/** Asks again and again until `during` is over. Resolves to the milliseconds of each. */
async function asked(world: World, during: Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  const going = { on: true };
  const end = (): void => {
    going.on = false;
  };
  during.then(end, end);
  do {
    times.push(await world.markedIn('allow-any'));
    await sleepMs(PAUSE_MS);
  } while (going.on);
  return times;
}

function p99(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? 0;
}

function sleepMs(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
