import {
  chmodSync,
  chownSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { policyFilesAt } from '#policystore';

/** How often the policies are looked at; whoever reads the mirror looks at that in turn. */
const POLL_MS = 500;

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
 * @throws {OutriderError} POLICY_INVALID where it cannot be read at first
 */
export async function mirrorPolicies(
  source: string,
  runtime: string,
  uid: number,
  warn: (error: unknown) => void,
): Promise<PolicyMirror> {
  const files = policyFilesAt(source);
  const path = join(runtime, 'policies');
  let copied: string | undefined;
  let copy: string | undefined;
  let number = 0;
  let failing = false;

  async function renew(): Promise<void> {
    const signature = await files.signature();
    if (signature === copied) return;
    const isDirectory = statSync(source).isDirectory();
    const found = await files.read();
    const next = `${path}.${++number}`;
    rmSync(next, { recursive: true, force: true });
    if (isDirectory) makeDirectory(next, uid);
    for (const { name, text } of found) {
      if (isDirectory) makeDirectories(next, dirname(name), uid);
      write(isDirectory ? join(next, name) : next, text, uid);
    }
    swap(path, next);
    if (copy !== undefined) rmSync(copy, { recursive: true, force: true });
    copy = next;
    copied = signature;
    failing = false;
  }

  await renew();
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
      rmSync(path, { force: true });
      if (copy !== undefined) rmSync(copy, { recursive: true, force: true });
    },
  };
}

/** Those of `name`, relative to `root`, that are missing. */
function makeDirectories(root: string, name: string, uid: number): void {
  if (name === '.') return;
  makeDirectories(root, dirname(name), uid);
  makeDirectory(join(root, name), uid);
}

function makeDirectory(path: string, uid: number): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
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
