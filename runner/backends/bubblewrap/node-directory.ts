import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from '#core/package-root';

/** Where root keeps what other users must be able to enter. */
const CACHE = '/var/cache/outrider';

/**
 * The directory that boxes get as /opt/node/bin: it holds the `node` that this project brings. Where another user may not enter
 * every directory above it and `foreign` says that boxes are other users, it is one in a cache, made once and whole.
 */
export function nodeDirectory(
  foreign: boolean,
  cache = CACHE,
  isOpen: (path: string) => boolean = enterable,
): string {
  const own = dirname(nodeBinary());
  if (!foreign || isOpen(own)) return own;
  const place = join(cache, `node-${process.version.slice(1)}`);
  const directory = join(place, 'bin');
  if (existsSync(join(directory, 'node'))) return directory;
  mkdirSync(cache, { recursive: true, mode: 0o755 });
  const making = mkdtempSync(join(cache, '.node-'));
  try {
    mkdirSync(join(making, 'bin'));
    linkOrCopy(nodeBinary(), join(making, 'bin', 'node'));
    for (const path of [making, join(making, 'bin'), join(making, 'bin', 'node')])
      chmodSync(path, 0o755);
    renameSync(making, place);
  } catch (error) {
    rmSync(making, { recursive: true, force: true });
    if (!existsSync(join(directory, 'node'))) throw error; // otherwise another runner was first
  }
  return directory;
}

/** The runtime that package.json brings, otherwise the one that runs this. */
function nodeBinary(): string {
  const brought = join(packageRoot, 'node_modules/node/bin/node');
  return existsSync(brought) ? brought : process.execPath;
}

/** Whether everybody may enter this directory and all above it. */
function enterable(path: string): boolean {
  const parent = dirname(path);
  return (statSync(path).mode & 0o001) !== 0 && (parent === path || enterable(parent));
}

/** A link costs nothing, but only within one file system. */
function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}
