import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { OutriderError } from '#core/errors';
import { policyFilesAt } from '#policystore';

/** How often the policies are looked at; whoever reads the mirror looks at that in turn. */
const POLL_MS = 500;

/** What the mirror is made in: a directory of root's in the runtime directory, where others may make files, too. */
const DIRECTORY = 'policies';

/** A copy of policies for a part that may not read the original. */
export interface PolicyMirror {
  /** Where it stands: a directory, or a bundle, as the original is at the moment. */
  readonly path: string;
  /** Ends the copying, and removes the copy. */
  close(): Promise<void>;
}

/**
 * Copies the policies at `source`, a directory or a bundle, into `runtime` for the user and group `uid`, and again within a second whenever they
 * change: for a gateway that has given up root where only root may read them. Each copy is put in place whole. While the
 * original cannot be read the last copy stays, and `warn` is told once.
 * Whoever may write in `runtime` may not write in the mirror.
 * @throws {OutriderError} POLICY_INVALID where it cannot be read at first; CONFIG_INVALID where somebody else has put something in its place
 */
export async function mirrorPolicies(
  source: string,
  runtime: string,
  uid: number,
  warn: (error: unknown) => void,
): Promise<PolicyMirror> {
  const files = policyFilesAt(source);
  const directory = join(runtime, DIRECTORY);
  const path = join(directory, 'current');
  let copied: string | undefined;
  let copy: string | undefined;
  let number = 0;
  let failing = false;

  async function renew(): Promise<void> {
    const signature = await files.signature();
    if (signature === copied) return;
    const isDirectory = statSync(source).isDirectory();
    const found = await files.read();
    const next = join(directory, String(++number));
    try {
      if (isDirectory) makeDirectory(next, uid);
      for (const { name, text } of found) {
        if (isDirectory) makeDirectories(next, dirname(name), uid);
        write(isDirectory ? join(next, name) : next, text, uid);
      }
      swap(path, next);
    } catch (error) {
      rmSync(next, { recursive: true, force: true });
      throw error;
    }
    if (copy !== undefined) rmSync(copy, { recursive: true, force: true });
    copy = next;
    copied = signature;
    failing = false;
  }

  // What cannot be read leaves nothing behind.
  await files.read();
  makeOwnDirectory(directory, uid);
  try {
    await renew();
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
  let closed = false;
  let timer: NodeJS.Timeout;
  let renewing = Promise.resolve();
  const later = (): void => {
    timer = setTimeout(() => {
      renewing = renew()
        .catch((error: unknown) => {
          if (!failing) warn(error);
          failing = true;
        })
        .then(() => {
          if (!closed) later();
        });
    }, POLL_MS).unref();
  };
  later();
  return {
    path,
    async close() {
      closed = true;
      clearTimeout(timer);
      await renewing;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Made here, or left by a run that was killed, and then emptied. @throws {OutriderError} CONFIG_INVALID where it is not root's own */
function makeOwnDirectory(path: string, uid: number): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (!found?.isDirectory() || found.uid !== 0 || (found.mode & 0o022) !== 0)
      throw new OutriderError(
        'CONFIG_INVALID',
        `\`${DIRECTORY}\` in the runtime directory cannot be made as a directory of root: remove what is in its place`,
        { cause: error },
      );
    for (const name of readdirSync(path)) rmSync(join(path, name), { recursive: true });
  }
  chownSync(path, 0, uid);
  chmodSync(path, 0o750);
}

/** Those of `name`, relative to `root`, that are missing. */
function makeDirectories(root: string, name: string, uid: number): void {
  if (name === '.') return;
  makeDirectories(root, dirname(name), uid);
  const path = join(root, name);
  if (!existsSync(path)) makeDirectory(path, uid);
}

function makeDirectory(path: string, uid: number): void {
  mkdirSync(path, { mode: 0o700 });
  chownSync(path, 0, uid);
  chmodSync(path, 0o750);
}

function write(path: string, text: string, uid: number): void {
  writeFileSync(path, text, { mode: 0o600, flag: 'wx' });
  chownSync(path, 0, uid);
  chmodSync(path, 0o640);
}

/** Whoever follows the link finds the old copy or the new one. */
function swap(link: string, target: string): void {
  const next = `${link}.next`;
  rmSync(next, { force: true });
  symlinkSync(target, next);
  renameSync(next, link);
}
