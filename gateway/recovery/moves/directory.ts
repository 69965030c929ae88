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
import type { MoveStore } from './store.ts';

/** A directory that the gateways of one machine share, with a file for each move. Files older than `keepMs` are removed at the start. */
export function directoryMoves(directory: string, keepMs: number): MoveStore {
  sweep(directory, keepMs);
  return {
    read: async (key) => readMove(join(directory, key)),
    write: async (key, text) => writeMove(join(directory, key), text),
    close() {},
  };
}

function sweep(directory: string, keepMs: number): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat && Date.now() - stat.mtimeMs > keepMs) rmSync(path, { force: true });
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
