import { createHash } from 'node:crypto';
import type { KeyRing } from '../sessions/key-ring.ts';
import { openPlace, sealPlace } from './moves/sealed-place.ts';
import { PREFIX, type SessionPlace, type SharedStore } from './moves/store.ts';

/**
 * Where sessions went that could not stay. A move is never changed: a session that moves again has moved on from where it was.
 * With a store, gateways share their moves; it is written once a move, and read only where a session cannot be reached at the place
 * that is known. While the store is away, or holds what no gateway has sealed, each gateway moves sessions for itself.
 */
export interface MovedSessions {
  /** The last place that is known in this process. */
  current(place: SessionPlace): SessionPlace;
  /** The same, looked up with the others. */
  lookUp(place: SessionPlace): Promise<SessionPlace>;
  /** Notes a move. Resolves to the one in force: another gateway may have been first. */
  move(from: SessionPlace, to: SessionPlace): Promise<SessionPlace>;
}

const MOVES_MAX = 100_000;
/** Hops that are followed: more servers than these have not failed one after the other within a session. */
const HOPS_MAX = 64;

/** `ring`: the keys of sessions, with which moves are sealed. `storeFailed` is told why, each time that the store was of no use. */
export function createMovedSessions(
  store: SharedStore | undefined,
  ring: () => KeyRing,
  storeFailed: (error: unknown) => void,
): MovedSessions {
  const moves = new Map<string, SessionPlace>();
  const remember = (key: string, to: SessionPlace): SessionPlace => {
    moves.set(key, to);
    const [oldest] = moves.keys();
    if (moves.size > MOVES_MAX && oldest !== undefined) moves.delete(oldest);
    return to;
  };
  const shared = async (key: string): Promise<SessionPlace | undefined> => {
    try {
      const found = await store?.read(key);
      return found === undefined ? undefined : remember(key, openPlace(found, key, ring()));
    } catch (error) {
      storeFailed(error);
      return undefined;
    }
  };

  return {
    current(place) {
      let at = place;
      for (let hop = 0; hop < HOPS_MAX; hop++) {
        const to = moves.get(keyOf(at));
        if (!to) break;
        at = to;
      }
      return at;
    },
    async lookUp(place) {
      let at = place;
      for (let hop = 0; hop < HOPS_MAX; hop++) {
        const key = keyOf(at);
        const to = moves.get(key) ?? (await shared(key));
        if (!to) break;
        at = to;
      }
      return at;
    },
    async move(from, to) {
      const key = keyOf(from);
      try {
        const text = await store?.write(key, sealPlace(to, key, ring()));
        return remember(key, text === undefined ? to : openPlace(text, key, ring()));
      } catch (error) {
        storeFailed(error);
        return remember(key, to);
      }
    },
  };
}

function keyOf({ backend, upstreamId }: SessionPlace): string {
  return `${PREFIX}-${createHash('sha256').update(`${backend}\n${upstreamId}`).digest('hex')}`;
}
