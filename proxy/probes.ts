import { type PolicySet, probeGrant } from '#policies';
import { CheckedAddresses } from './addresses.ts';
import { dial } from './dial.ts';
import { endpointOf } from './endpoint.ts';
import type { Resolver } from './resolver.ts';

const EVERY_MS = 15_000;
const TIMEOUT_MS = 5_000;
const AT_ONCE = 8;

/** Whether the endpoints of the datasources can be reached, looked up in the background. */
export interface Probes {
  /** The datasources that could not be reached when it was last tried, with the time-out or code; never an address. */
  readonly unreachable: Readonly<Record<string, string>>;
  /** Tries all of them now. */
  probe(): Promise<void>;
  close(): void;
}

/**
 * Resolves, checks and connects to every endpoint of the policies in force, every 15 s. No request is sent, no secret read, and no
 * breaker hears of it: an upstream that nobody asks for is nobody's trouble.
 */
export function createProbes(
  sets: () => readonly PolicySet[],
  resolver: Resolver,
  everyMs = EVERY_MS,
): Probes {
  let unreachable: Record<string, string> = {};
  let running: Promise<void> | undefined;
  const probe = async (): Promise<void> => {
    const found = new Map(sets().flatMap((set) => [...set.datasources].map(([key]) => [key, set])));
    const waiting = [...found];
    const problems: Record<string, string> = {};
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const [key, set] = next;
        const problem = await problemOf(set, key, resolver);
        if (problem !== undefined) problems[key] = problem;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    unreachable = problems;
  };
  const once = (): Promise<void> => {
    running ??= probe().finally(() => {
      running = undefined;
    });
    return running;
  };
  const timer = setInterval(() => void once(), everyMs).unref();
  void once();
  return {
    get unreachable() {
      return unreachable;
    },
    probe: once,
    close: () => clearInterval(timer),
  };
}

async function problemOf(
  set: PolicySet,
  key: string,
  resolver: Resolver,
): Promise<string | undefined> {
  const grant = probeGrant(set, key);
  if (!grant) return undefined;
  const { host, port } = endpointOf(grant.datasource.spec.endpoint);
  try {
    const addresses = CheckedAddresses.check(grant, await resolver.resolve(host));
    const socket = await dial(addresses, { port, timeoutMs: TIMEOUT_MS });
    socket.destroy();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : 'it cannot be reached';
  }
}
