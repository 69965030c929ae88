// `npm run image -- --base IMAGE [--tag TAG]`: builds the image of docker and gvisor sandboxes with this project's own Node and
// this machine's npm. Nothing is pulled where the base is on this machine.
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, linkSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    base: { type: 'string' },
    tag: { type: 'string', default: 'outrider-sandbox:latest' },
  },
});
if (!values.base) {
  process.stderr.write(
    'usage: npm run image -- --base IMAGE [--tag TAG]\n  IMAGE has python3; tools/sandbox-base.sh makes one without a registry\n',
  );
  process.exit(2);
}

// Beside node_modules, so that the binary of 143 MiB can be linked instead of copied.
const context = mkdtempSync(join(root, 'node_modules/.sandbox-image-'));
try {
  const node = join(root, 'node_modules/node/bin/node');
  try {
    linkSync(node, join(context, 'node'));
  } catch {
    copyFileSync(node, join(context, 'node'));
  }
  cpSync(npmDirectory(), join(context, 'npm'), { recursive: true });
  copyFileSync(join(root, 'deploy/docker/sandbox/Dockerfile'), join(context, 'Dockerfile'));
  const { status } = spawnSync(
    'docker',
    ['build', '--network=none', '--build-arg', `BASE=${values.base}`, '-t', values.tag, context],
    { stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, DOCKER_BUILDKIT: '0' } },
  );
  process.exitCode = status ?? 1;
} finally {
  rmSync(context, { recursive: true, force: true });
}

/** The npm that runs this script, or the first in PATH. */
function npmDirectory() {
  const { stdout } = spawnSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' });
  const cli = process.env.npm_execpath ?? stdout.trim();
  if (cli === '') throw new Error('npm is not in PATH: it goes into the image');
  return dirname(dirname(realpathSync(cli)));
}
