import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { dirname, join } from 'node:path';
import { type Field, integer } from './config.ts';
import { OutriderError } from './errors.ts';
import { packageRoot } from './package-root.ts';

/**
 * Who the parts of a mesh are once they have given up root: a uid and a gid of the same number, which need no entry in
 * /etc/passwd. Above every range that distributions give to users, services and containers, and just below the sandboxes'.
 */
export const MESH_UID = 1_899_999_999;

/** A uid, 0 to stay root, or `auto`. */
export type MeshUser = number | 'auto';

/** The key `user`, by default of a part that gives up root. */
export function meshUser(
  doc = 'As root: the uid, and gid, that this process changes to for good once it has what only root may open',
): Field<MeshUser> {
  const uid = integer('', 0, 2 ** 31 - 1);
  return {
    doc: `${doc}; 0 to stay root. \`auto\` is ${MESH_UID} where that user can read this installation, otherwise 0. The same for all parts of a mesh`,
    kind: `auto | ${uid.kind}`,
    default: 'auto',
    parse: (raw) => (raw === 'auto' ? raw : uid.parse(raw)),
  };
}

/** Who a process that is root becomes; 0 for staying root. `needed` are the directories that a part must be able to enter. */
export function uidOf(user: MeshUser, needed: readonly string[] = NEEDED): number {
  if (user !== 'auto') return user;
  return needed.every((directory) => mayEnter(MESH_UID, realpathSync(directory))) ? MESH_UID : 0;
}

/** Whether a part that is root now will have become another user once it has started. */
export function givesUpRoot(user: MeshUser): boolean {
  return isRoot() && uidOf(user) !== 0;
}

/** Modules are loaded when they are first used, and the runner starts sidecars. */
const NEEDED = [packageRoot, dirname(process.execPath)];

/** By the modes of the directory and of all above it; what else there is, such as an access control list, is not looked at. */
function mayEnter(uid: number, directory: string): boolean {
  const { mode, uid: owner, gid } = statSync(directory);
  const execute = owner === uid ? 0o100 : gid === uid ? 0o010 : 0o001;
  if ((mode & execute) === 0) return false;
  return directory === '/' || mayEnter(uid, dirname(directory));
}

/** Whether this process is root. */
export function isRoot(): boolean {
  return process.getuid?.() === 0 || process.geteuid?.() === 0;
}

/**
 * Makes this process the user `uid` in the group of the same number and no other, for good: all ids of every thread, and with them
 * every capability. The kernel then lets no process of that user read this one's memory, and the signal that opens
 * Node's debugger does nothing. What is loaded later must be readable for that user, too. Does nothing where the process is not root, or `uid` is 0.
 * @throws {OutriderError} CONFIG_INVALID where that cannot be done, or /proc does not show that it was; the process must then not serve
 */
export function giveUpRoot(uid: number): void {
  if (!isRoot() || uid === 0) return;
  flushCompileCache(); // at its end this process could not write it any more
  try {
    process.setgroups?.([uid]);
    process.setgid?.(uid);
    process.setuid?.(uid);
  } catch (error) {
    throw notGivenUp(
      uid,
      'it is not allowed to change to it, or that uid does not exist here',
      error,
    );
  }
  process.on('SIGUSR1', () => {}); // another process of this user may send it
  let statuses: string[];
  try {
    statuses = threadStatuses('/proc/self/task');
  } catch (error) {
    throw notGivenUp(uid, '/proc does not show whether it did', error);
  }
  for (const status of statuses) {
    const problem = powerIn(status, uid);
    if (problem !== undefined) throw notGivenUp(uid, `${problem} stayed`);
  }
  try {
    readFileSync(join(packageRoot, 'package.json'));
  } catch (error) {
    throw notGivenUp(uid, `it could not read this installation, ${packageRoot}`, error);
  }
}

/** What a thread still has of root, by its `/proc/<pid>/task/<tid>/status`; undefined for nothing. See proc(5) and capabilities(7). */
export function powerIn(status: string, uid: number): string | undefined {
  const wanted: readonly (readonly [string, RegExp])[] = [
    ['Uid', new RegExp(`^(${uid}\\s*){4}$`)], // real, effective, saved, file system
    ['Gid', new RegExp(`^(${uid}\\s*){4}$`)],
    ['Groups', new RegExp(`^${uid}\\s*$`)],
    ['CapPrm', /^0+$/],
    ['CapEff', /^0+$/],
    ['CapAmb', /^0+$/],
  ];
  const is = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
  return wanted.find(([name, form]) => !form.test(is(name)))?.[0];
}

/**
 * The `status` of each thread below such a directory as `/proc/self/task`. One that ends while they are read has no power any more.
 * @throws what keeps them from being read, or where there is none
 */
export function threadStatuses(tasks: string): string[] {
  const statuses = readdirSync(tasks).flatMap((thread) => {
    try {
      return [readFileSync(join(tasks, thread, 'status'), 'utf8')];
    } catch (error) {
      if (hasEnded(error)) return [];
      throw error;
    }
  });
  if (statuses.length === 0) throw new Error(`${tasks} shows no thread`);
  return statuses;
}

/** A thread that has ended has no directory, or one that cannot be read any more. */
function hasEnded(error: unknown): boolean {
  if (!(error instanceof Error && 'code' in error)) return false;
  return error.code === 'ENOENT' || error.code === 'ESRCH';
}

function notGivenUp(uid: number, why: string, cause?: unknown): OutriderError {
  return new OutriderError(
    'CONFIG_INVALID',
    `this process, started as root, cannot become the user ${uid}: ${why}. Set \`user\` to a uid for which that can be, or to 0 to stay root`,
    { cause },
  );
}
