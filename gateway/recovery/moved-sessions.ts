import { createHash } from 'node:crypto';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { writePrivateFile } from '#core/runtime-dir';

/** Where a session is: a server, and that server's id of it. */
export interface SessionPlace {
  readonly backend: string;
  readonly upstreamId: string;
}

/**
 * Where sessions went that could not stay. A move is never changed: a session that moves again has moved on from where it was.
 * With a directory, gateways of one machine share their moves; it is written once a move, and read only where a session cannot
 * be reached at the place that is known.
 */
export interface MovedSessions {
  /** The last place that is known in this process. */
  current(place: SessionPlace): SessionPlace;
  /** The same, looked up with the others. */
  lookUp(place: SessionPlace): SessionPlace;
  /** Notes a move. Returns the one in force: another gateway may have been first. */
  move(from: SessionPlace, to: SessionPlace): SessionPlace;
}

/** What the name of each of its files begins with. */
export const MOVE_PREFIX = 'move';
const MOVES_MAX = 100_000;
/** Hops that are followed: more servers than these have not failed one after the other within a session. */
const HOPS_MAX = 64;

/** `keepMs`: how long a session can last; older files are removed at the start. */
export function openMovedSessions(directory: string | undefined, keepMs: number): MovedSessions {
  if (directory !== undefined) sweep(directory, keepMs);
  const moves = new Map<string, SessionPlace>();
  const remember = (key: string, to: SessionPlace): SessionPlace => {
    moves.set(key, to);
    const [oldest] = moves.keys();
    if (moves.size > MOVES_MAX && oldest !== undefined) moves.delete(oldest);
    return to;
  };
  const follow = (
    place: SessionPlace,
    next: (key: string) => SessionPlace | undefined,
  ): SessionPlace => {
    let at = place;
    for (let hop = 0; hop < HOPS_MAX; hop++) {
      const to = next(keyOf(at));
      if (!to) break;
      at = to;
    }
    return at;
  };

  return {
    current: (place) => follow(place, (key) => moves.get(key)),
    lookUp: (place) =>
      follow(place, (key) => {
        const known = moves.get(key);
        if (known || directory === undefined) return known;
        const found = readMove(directory, key);
        return found && remember(key, found);
      }),
    move(from, to) {
      const key = keyOf(from);
      return remember(key, directory === undefined ? to : writeMove(directory, key, to));
    },
  };
}

function keyOf({ backend, upstreamId }: SessionPlace): string {
  return `${MOVE_PREFIX}-${createHash('sha256').update(`${backend}\n${upstreamId}`).digest('hex')}`;
}

function sweep(directory: string, keepMs: number): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat && Date.now() - stat.mtimeMs > keepMs) rmSync(path, { force: true });
  }
}

function readMove(directory: string, key: string): SessionPlace | undefined {
  const path = join(directory, key);
  if (!existsSync(path)) return undefined;
  const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'));
  return Array.isArray(parsed) && typeof parsed[0] === 'string' && typeof parsed[1] === 'string'
    ? { backend: parsed[0], upstreamId: parsed[1] }
    : undefined;
}

/** Whole or not at all, and by one alone: a link to a name that is there fails. */
function writeMove(directory: string, key: string, to: SessionPlace): SessionPlace {
  const path = join(directory, key);
  const mine = `${path}.${process.pid}.new`;
  writePrivateFile(mine, JSON.stringify([to.backend, to.upstreamId]));
  try {
    linkSync(mine, path);
    return to;
  } catch (error) {
    const theirs = readMove(directory, key);
    if (theirs) return theirs;
    throw error;
  } finally {
    rmSync(mine, { force: true });
  }
}
