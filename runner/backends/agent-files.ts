import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '#core/package-root';

/** Where boxes see the agent. */
export const AGENT_DIRECTORY = '/run/agent';

/**
 * Copies the agent to where every box's user may read it and none may write: the checkout itself may be in a directory that only
 * its owner can enter. Compiled, because a box may not write beside it. Returns the directory that boxes get as /run/agent.
 */
export function installAgent(shared: string): string {
  const source = join(packageRoot, 'runner/agent');
  const directory = join(shared, 'agent');
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  chmodSync(directory, 0o755);
  for (const name of readdirSync(source).filter((candidate) => /\.(py|m?js)$/.test(candidate))) {
    copyFileSync(join(source, name), join(directory, name));
    chmodSync(join(directory, name), 0o644);
  }
  // `-d`: what is compiled names the path in the box, not the host's. Without Python here boxes with an image of their own compile anew.
  const compile = `-I -S -m compileall -q --invalidation-mode unchecked-hash -d ${AGENT_DIRECTORY}`;
  spawnSync('/usr/bin/python3', [...compile.split(' '), directory], { stdio: 'ignore' });
  const compiled = join(directory, '__pycache__');
  mkdirSync(compiled, { recursive: true });
  chmodSync(compiled, 0o755);
  for (const name of readdirSync(compiled)) chmodSync(join(compiled, name), 0o644);
  return directory;
}
