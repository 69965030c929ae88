import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isRoot, uidOf } from '#core/mesh-user';
import type { RunnerConfig } from '../config.ts';
import { removeDirectory } from './remove.ts';

/** Where the runner keeps what is its alone, in the directory of the sandboxes: artefacts, and the sockets of its sidecars. */
export function runnerDirectory({ sandboxDirectory }: RunnerConfig): string {
  return join(sandboxDirectory, 'runner');
}

/** Whose that is, and the sandboxes' directories. */
export function runnerUid({ user }: RunnerConfig): number {
  return isRoot() ? uidOf(user) : (process.getuid?.() ?? 0);
}

/** Makes the runner's own directory. */
export function makeRunnerDirectory(config: RunnerConfig): void {
  const path = runnerDirectory(config);
  const uid = runnerUid(config);
  mkdirSync(path, { mode: 0o700 });
  if (isRoot()) chownSync(path, uid, uid);
  chmodSync(path, 0o700);
}

/** Removes what sandboxes and their runner left in the directory. @throws {Error} where something stays */
export async function removeSandboxes(directory: string): Promise<void> {
  if (!existsSync(directory)) return;
  for (const name of readdirSync(directory))
    if (/^(sbx|att|probe)-|^(runner|artefacts)$/.test(name))
      await removeDirectory(join(directory, name));
}

/** Removes everything that was made in it but the sign of its owner. @throws {Error} where something stays */
export async function removeOurs(directory: string): Promise<void> {
  await removeSandboxes(directory);
  for (const name of ['agent', 'etc', 'seccomp.bpf'])
    rmSync(join(directory, name), { recursive: true, force: true });
}
