import {
  appendFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  watch,
} from 'node:fs';
import { join } from 'node:path';
import { writePrivateFile } from '#core/runtime-dir';
import { LogReader, logName } from './logs.ts';
import { PREFIX, type SharedStore, TOPICS } from './store.ts';

/** Where the system does not say that something was told, that is found out this much later. */
const LOOK_EVERY_MS = 1_000;
/** A move with what is left of its writing, and a log. */
const OURS = new RegExp(
  `^${PREFIX}-([\\da-f]{64}(\\.\\d+\\.new(\\.[\\da-f]+\\.tmp)?)?|(${TOPICS.join('|')})\\.\\d{4}-\\d\\d-\\d\\d)$`,
);

/**
 * A directory that the gateways of one machine share, with a file for each move, and one a day for what they tell all others. Those that
 * are older than `keepMs` are removed at the start; nothing else in the directory is touched.
 */
export function sharedDirectory(directory: string, keepMs: number): SharedStore {
  sweep(directory, keepMs);
  const logs = new LogReader(directory);
  let stop = () => {};
  return {
    read: async (key) => readMove(join(directory, key)),
    write: async (key, text) => writeMove(join(directory, key), text),
    async tell(topic, text) {
      appendFileSync(join(directory, logName(topic)), `${text}\n`, { mode: 0o600 });
    },
    catchUp: async (hear) => logs.read(hear),
    follow(hear, failed) {
      stop = lookWhenChanged(directory, () => {
        try {
          logs.read(hear);
        } catch (error) {
          failed(error);
        }
      });
    },
    close: () => stop(),
  };
}

/** Looks at once when the system says that something changed, and now and then where it does not. */
function lookWhenChanged(directory: string, look: () => void): () => void {
  const timer = setInterval(look, LOOK_EVERY_MS).unref();
  try {
    const watcher = watch(directory, { persistent: false }, look);
    watcher.on('error', () => watcher.close());
    return () => {
      clearInterval(timer);
      watcher.close();
    };
  } catch {
    return () => clearInterval(timer); // the system has no watch left
  }
}

function sweep(directory: string, keepMs: number): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const stat = OURS.test(name) ? lstatSync(path, { throwIfNoEntry: false }) : undefined;
    if (stat?.isFile() && Date.now() - stat.mtimeMs > keepMs) rmSync(path, { force: true });
  }
}

function readMove(path: string): string | undefined {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}

/** Whole or not at all, and by one alone: a link to a name that is there fails. */
function writeMove(path: string, text: string): string {
  const mine = `${path}.${process.pid}.new`;
  writePrivateFile(mine, text);
  try {
    linkSync(mine, path);
    return text;
  } catch (error) {
    const theirs = readMove(path);
    if (theirs !== undefined) return theirs;
    throw error;
  } finally {
    rmSync(mine, { force: true });
  }
}
