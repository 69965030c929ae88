import { createHash } from 'node:crypto';
import { readdirSync, rmdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import { listen } from '#core/http';
import type { Lifecycle } from '#core/lifecycle';
import { ensurePrivateDir } from '#core/runtime-dir';
import type { Backend, BackendName } from '../backends/backend.ts';
import { createBubblewrapBackend } from '../backends/bubblewrap/backend.ts';
import { killStrays } from '../backends/bubblewrap/strays.ts';
import { cgroupHost } from '../cgroup.ts';
import type { RunnerConfig } from '../config.ts';

/** The configured backends, in order, with nothing left of an earlier launcher's. Their ends are added to `lifecycle`. @throws {OutriderError} ADDRESS_IN_USE, CONFIG_INVALID */
export async function prepareBackends(
  config: RunnerConfig,
  lifecycle: Lifecycle,
): Promise<Backend[]> {
  const directory = config.sandboxDirectory;
  ensurePrivateDir(directory, 0o711); // never somebody else's, and never a link to somewhere else
  await own(directory, lifecycle);
  removeSandboxes(directory);
  lifecycle.add('directory', () => removeOurs(directory));
  const names = [...new Set(config.backends)];
  if (names.length === 0)
    throw new OutriderError('CONFIG_INVALID', 'runner.backends must name at least one backend');
  const backends: Backend[] = [];
  let engine: OnEngine | undefined;
  for (const name of names) {
    if (name === 'bubblewrap') backends.push(bubblewrapOf(config, lifecycle));
    else backends.push((engine ??= await onEngine(config, lifecycle))(name));
  }
  return backends;
}

function bubblewrapOf(config: RunnerConfig, lifecycle: Lifecycle): Backend {
  const sharedDirectory = config.sandboxDirectory;
  const cgroups = cgroupHost(sharedDirectory);
  killStrays(sharedDirectory);
  cgroups?.sweep();
  lifecycle.add('cgroups', () => cgroups?.close());
  return createBubblewrapBackend({ sharedDirectory, cgroups, command: config.bubblewrap });
}

type OnEngine = (name: Exclude<BackendName, 'bubblewrap'>) => Backend;

/** The engine, without containers that an earlier launcher left; one that is away now may come later. */
async function onEngine(config: RunnerConfig, lifecycle: Lifecycle): Promise<OnEngine> {
  // Only where it is configured: its client weighs more than the rest of the launcher.
  const [{ Engine }, { createDockerBackend }] = await Promise.all([
    import('../backends/docker/engine.ts'),
    import('../backends/docker/backend.ts'),
  ]);
  const sharedDirectory = config.sandboxDirectory;
  const owner = createHash('sha256').update(sharedDirectory).digest('hex').slice(0, 24);
  const engine = new Engine(config['docker.socket'], owner);
  lifecycle.add('engine', () => engine.close());
  await engine.sweep().catch(() => {}); // the probe says what is wrong with it
  return (name) =>
    createDockerBackend({
      name,
      engine,
      runtime: name === 'gvisor' ? config['gvisor.runtime'] : undefined,
      images: config['docker.images'],
      sharedDirectory,
    });
}

/**
 * Makes the directory this launcher's alone for as long as it lives: a socket in it that somebody answers is another one's, which
 * must lose nothing.
 */
async function own(directory: string, lifecycle: Lifecycle): Promise<void> {
  const owner = createServer((socket) => socket.destroy());
  try {
    await listen(owner, { kind: 'unix', path: join(directory, 'owner.sock') });
  } catch (error) {
    throw new OutriderError(
      'ADDRESS_IN_USE',
      `another runner uses ${directory}: give this one a runner.sandboxDirectory of its own`,
      { cause: error },
    );
  }
  lifecycle.add('owner', () => void owner.close());
}

function removeSandboxes(directory: string): void {
  for (const name of readdirSync(directory))
    if (/^(sbx|att|probe)-/.test(name))
      rmSync(join(directory, name), { recursive: true, force: true });
}

/** Everything that was made in it, and then the directory where nothing else is left: it may be somebody's who chose it badly. */
function removeOurs(directory: string): void {
  removeSandboxes(directory);
  for (const name of ['agent', 'etc', 'seccomp.bpf', 'owner.sock'])
    rmSync(join(directory, name), { recursive: true, force: true });
  try {
    rmdirSync(directory);
  } catch {
    // Not ours alone.
  }
}
