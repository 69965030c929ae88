import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/mesh.ts';
import type { World } from './world.ts';

const PORT = 4201;
const STARTED_WITHIN_MS = 120_000;

/** Whether a proxy starts with the bundle of who may sign, and neither with a stranger's nor with what nobody signed. */
export async function takesOnlySignedBundles(
  world: World,
  documents: string,
): Promise<readonly string[]> {
  const root = join(world.policies, '..', 'bundles');
  const directory = join(root, 'policies');
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'policy.yaml'), documents);
  commit(root);
  for (const name of ['ours', 'stranger']) {
    await run(world, ['keygen', join(root, name)]);
    const key = join(root, `${name}.key.json`);
    await run(world, ['bundle', directory, '--key', key, '--out', join(root, `${name}.json`)]);
  }
  const starts = (policies: string) => startsWith(world, policies, join(root, 'ours.pub.json'));
  return [
    ...((await starts(join(root, 'ours.json'))) ? [] : ['a bundle that is signed does not load']),
    ...((await starts(join(root, 'stranger.json'))) ? ["a stranger's bundle was loaded"] : []),
    ...((await starts(directory)) ? ['what nobody signed was loaded'] : []),
  ];
}

/** A proxy of its own that wants a bundle; whether it says that it is ready. */
async function startsWith(world: World, policies: string, keys: string): Promise<boolean> {
  const own = join(policies, '..', `proxy-${process.hrtime.bigint()}`);
  mkdirSync(own);
  const child = world.mesh.start(['proxy'], {
    env: {
      OUTRIDER_PROXY_POLICIES: policies,
      OUTRIDER_PROXY_POLICY_KEYS: keys,
      OUTRIDER_PROXY_POLICY_REQUIRE: 'bundle',
      OUTRIDER_PROXY_POLICY_SERIALS: join(own, 'serial.json'),
      OUTRIDER_PROXY_LISTEN: `unix:${join(own, 'proxy.sock')}`,
      OUTRIDER_PROXY_ADMIN: `127.0.0.1:${PORT}`,
      OUTRIDER_PROXY_AUDIT_DIR: join(own, 'audit'),
      OUTRIDER_PROXY_AUDIT_KEYS_DIR: join(own, 'keys'),
    },
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const over = new Promise((resolve) => child.once('exit', resolve));
  try {
    const decided = () => child.exitCode !== null || isReady(said);
    await until('the proxy is ready or gives up', decided, STARTED_WITHIN_MS);
    return isReady(said);
  } finally {
    child.kill('SIGTERM');
    await over;
  }
}

function isReady(said: string): boolean {
  return /\bready\b/.test(said);
}

async function run(world: World, argv: readonly string[]): Promise<void> {
  const { code, stderr } = await world.mesh.outrider(['policy', ...argv]);
  if (code !== 0) throw new Error(`outrider policy ${argv[0]}: ${stderr}`);
}

function commit(root: string): void {
  const git = (...argv: readonly string[]): void => {
    const who = ['-c', 'user.name=battery', '-c', 'user.email=battery@battery.test'];
    execFileSync('git', [...who, '-C', root, ...argv], { stdio: ['ignore', 'ignore', 'pipe'] });
  };
  git('init', '--quiet', '--initial-branch', 'main');
  git('add', '--', 'policies');
  git('commit', '--quiet', '--message', 'Policies of the battery');
}
