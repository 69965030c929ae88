import { Pool } from 'undici';
import type { Clock } from '#core/clock';
import type { Metrics } from '#core/metrics';

/** One server behind the gateway. */
export interface Upstream {
  readonly pool: Pool;
  /** The path of its MCP endpoint. */
  readonly path: string;
  /** The label in metrics: its place in the configuration, since an address is no label. */
  readonly label: string;
}

export interface Balancer {
  /**
   * The server for the next request: of two chosen at random, the one with fewer requests in flight. One that could not be
   * reached is left out for 5 s, unless there is no other. Undefined only where `except` was the last one.
   */
  pick(except?: Upstream): Upstream | undefined;
  /** Notes a request sent to `upstream`; call what it returns when that request has ended. */
  begin(upstream: Upstream): () => void;
  /** Notes that `upstream` could not be reached. */
  eject(upstream: Upstream): void;
  readonly upstreams: readonly Upstream[];
  close(): Promise<void>;
}

const EJECTED_MS = 5_000;
const CONNECT_TIMEOUT_MS = 2_000;
/** Below the 5 s after which Node servers close an idle connection, so that none is used in the moment it dies. */
const KEEP_ALIVE_MS = 4_000;

interface State {
  inFlight: number;
  ejectedUntil: number;
}

export function createBalancer(
  servers: readonly URL[],
  metrics: Metrics,
  now: Clock = Date.now,
  random: () => number = Math.random,
): Balancer {
  const up = metrics.gauge('outrider_backend_up', 'Servers that can be reached', ['backend']);
  const load = metrics.gauge('outrider_backend_inflight', 'Requests in flight', ['backend']);
  const upstreams = servers.map((url, index) => createUpstream(url, String(index)));
  const states = new Map<Upstream, State>(
    upstreams.map((upstream) => [upstream, { inFlight: 0, ejectedUntil: 0 }]),
  );
  for (const { label } of upstreams) {
    up.set({ backend: label }, 1);
    load.set({ backend: label }, 0);
  }
  const stateOf = (upstream: Upstream): State => {
    const state = states.get(upstream);
    if (!state) throw new Error('not an upstream of this balancer');
    return state;
  };

  return {
    upstreams,
    pick(except) {
      const others = upstreams.filter((upstream) => upstream !== except);
      const usable = others.filter((upstream) => stateOf(upstream).ejectedUntil <= now());
      // With every server ejected, waiting helps nobody: the next request finds out whether one is back.
      const [first, second] = twoOf(usable.length > 0 ? usable : others, random);
      if (!first || !second) return first;
      return stateOf(second).inFlight < stateOf(first).inFlight ? second : first;
    },
    begin(upstream) {
      const state = stateOf(upstream);
      load.set({ backend: upstream.label }, ++state.inFlight);
      let ended = false;
      return () => {
        if (ended) return;
        ended = true;
        load.set({ backend: upstream.label }, --state.inFlight);
        if (state.ejectedUntil <= now()) up.set({ backend: upstream.label }, 1);
      };
    },
    eject(upstream) {
      stateOf(upstream).ejectedUntil = now() + EJECTED_MS;
      up.set({ backend: upstream.label }, 0);
    },
    async close() {
      await Promise.all(upstreams.map(({ pool }) => pool.destroy()));
    },
  };
}

function createUpstream(url: URL, label: string): Upstream {
  const pool = new Pool(url.origin, {
    // An event stream may be silent for as long as it lives: how long is up to its two ends.
    headersTimeout: 0,
    bodyTimeout: 0,
    connectTimeout: CONNECT_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
    pipelining: 1,
    allowH2: false,
  });
  return { pool, path: url.pathname, label };
}

/** Two different members at random, or what there is. */
function twoOf<T>(members: readonly T[], random: () => number): readonly T[] {
  if (members.length < 2) return members;
  const first = Math.floor(random() * members.length);
  const second = (first + 1 + Math.floor(random() * (members.length - 1))) % members.length;
  // In the order of the dice: between two equally idle ones the first is taken.
  return [first, second].flatMap((index) => members.slice(index, index + 1));
}
