import { createHash } from 'node:crypto';
import type { Lifecycle } from '#core/lifecycle';
import type { Backend, BackendName } from '../backends/backend.ts';
import { createBubblewrapBackend } from '../backends/bubblewrap/backend.ts';
import { endStrays } from '../backends/bubblewrap/strays.ts';
import { cgroupHost } from '../cgroup.ts';
import type { RunnerConfig } from '../config.ts';
import { assertSomeBackend } from '../config-check.ts';
import { makeRunnerDirectory, removeOurs, removeSandboxes } from './directories.ts';
import { ownDirectory } from './ownership.ts';

/** The configured backends, in order, with nothing left of an earlier launcher's. Their ends are added to `lifecycle`. @throws {OutriderError} ADDRESS_IN_USE, CONFIG_INVALID */
export async function prepareBackends(
  config: RunnerConfig,
  lifecycle: Lifecycle,
): Promise<Backend[]> {
  const directory = config.sandboxDirectory;
  await ownDirectory(directory, lifecycle);
  await endStrays(directory);
  await removeSandboxes(directory);
  lifecycle.add('directory', () => removeOurs(directory));
  makeRunnerDirectory(config);
  const names = [...new Set(config.backends)];
  assertSomeBackend(config);
  const backends: Backend[] = [];
  let engine: OnEngine | undefined;
  for (const name of names) {
    if (name === 'bubblewrap') backends.push(await bubblewrapOf(config, lifecycle));
    else backends.push((engine ??= await onEngine(config, lifecycle))(name));
  }
  return backends;
}

async function bubblewrapOf(config: RunnerConfig, lifecycle: Lifecycle): Promise<Backend> {
  const sharedDirectory = config.sandboxDirectory;
  const cgroups = cgroupHost(sharedDirectory);
  await cgroups?.sweep();
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
