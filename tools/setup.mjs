// Sets up whatever is missing, then does what was asked: start, test, demo, outrider, bench, fuzz, chaos, battery, conformance. Runs on any Node from 20 on, with
// nothing installed: the rest of the project runs on the Node that package.json brings.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const node = join(root, 'node_modules/node/bin/node');

const [task = 'start', ...rest] = process.argv.slice(2);
const TASKS = {
  start: () => exec(node, ['dist/cli/main.js', 'up', ...rest]),
  outrider: () => exec(node, [join(root, 'dist/cli/main.js'), ...rest], process.env.INIT_CWD),
  demo: () => exec(node, ['--conditions=outrider-source', 'examples/demo/demo.ts', ...rest]),
  bench: () => exec(node, ['--conditions=outrider-source', 'bench/main.ts', ...rest]),
  fuzz: () => exec(node, ['--conditions=outrider-source', 'test/fuzz/main.ts', ...rest]),
  chaos: () => exec(node, ['--conditions=outrider-source', 'test/chaos/main.ts', ...rest]),
  conformance: () =>
    exec(node, ['--conditions=outrider-source', 'test/conformance/main.ts', ...rest]),
  battery: () => exec(node, ['--conditions=outrider-source', 'test/battery/main.ts', ...rest]),
  test: () => exec(node, ['tools/test.mjs', ...rest]),
};

if (!TASKS[task]) fail(`usage: node tools/setup.mjs ${Object.keys(TASKS).join('|')}`);
setUp();
TASKS[task]();

function setUp() {
  installPackages();
  installSystem();
  build();
}

/** `npm ci` whenever the lockfile is not the one that node_modules was made from. */
function installPackages() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const stamp = join(root, 'node_modules/.outrider-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock && existsSync(node)) return;
  step('installing npm packages');
  run(
    'npm',
    ['ci', '--no-audit', '--no-fund', '--loglevel=error'],
    'npm ci failed: the lines above say why',
  );
  if (!runs(node)) {
    // Some npm versions run no install script unless told: this is the `node` package's own, which unpacks the runtime.
    step('unpacking Node 26');
    run(
      'npm',
      ['rebuild', 'node', '--ignore-scripts=false', '--loglevel=error'],
      'Node 26 could not be unpacked',
    );
    if (!runs(node))
      run(
        process.execPath,
        [join(root, 'node_modules/node/installArchSpecificPackage.js')],
        'Node 26 could not be unpacked',
        join(root, 'node_modules/node'),
      );
  }
  if (!runs(node))
    fail(`the package "node" brought no usable runtime for ${process.platform}-${process.arch}`);
  writeFileSync(stamp, lock);
}

/** bubblewrap makes the sandboxes, /usr/bin/python3 runs in them. */
function installSystem() {
  const missing = [
    ...(onPath('bwrap') ? [] : ['bubblewrap']),
    ...(existsSync('/usr/bin/python3') ? [] : ['python3']),
  ];
  if (missing.length === 0) return;
  const command = `apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  const as = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  const allowed =
    onPath('apt-get') &&
    (as.length === 0 ||
      (onPath('sudo') && spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0));
  if (!allowed) fail(`${missing.join(' and ')} must be installed: sudo ${command}`);
  step(`installing ${missing.join(' and ')} with apt`);
  const apt = (...args) =>
    spawnSync([...as, 'apt-get'][0], [...as, 'apt-get', ...args].slice(1), {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    }).status === 0;
  const install = () => apt('install', '-y', '-q', '--no-install-recommends', ...missing);
  if (!install() && !(apt('update', '-q') && install()))
    fail(`apt could not install ${missing.join(' and ')}; try: sudo ${command}`);
}

/** Long-lived processes run from dist/: they start faster and weigh less. Built again whenever a source is newer. */
function build() {
  const stamp = join(root, 'dist/.outrider-build');
  const key = sourceKey();
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === key) return;
  step('building');
  run(node, ['tools/build.mjs'], 'the build failed: the lines above say why');
  writeFileSync(stamp, key);
}

/** Names, sizes and times of every source: cheap, and enough to see a change. */
function sourceKey() {
  const hash = createHash('sha256');
  const folders = [
    'core',
    'proto',
    'policies',
    'policystore',
    'gateway',
    'server',
    'runner',
    'sidecar',
    'proxy',
    'sdk',
    'redteam',
    'cli',
  ];
  const visit = (path) => {
    for (const entry of readdirSync(path, { withFileTypes: true }).toSorted((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const child = join(path, entry.name);
      if (entry.isDirectory()) visit(child);
      else if (entry.name.endsWith('.ts')) {
        const { size, mtimeMs } = statSync(child);
        hash.update(`${relative(root, child)} ${size} ${mtimeMs}\n`);
      }
    }
  };
  for (const folder of folders) visit(join(root, folder));
  for (const file of ['tsconfig.json', 'tools/build.mjs', 'package.json', 'package-lock.json'])
    hash.update(readFileSync(join(root, file)));
  return hash.digest('hex');
}

/** Replaces this process as far as one can: signals and the exit code pass through. */
function exec(program, args, cwd = root) {
  const child = spawn(program, args, { cwd, stdio: 'inherit' });
  // A terminal signals the whole group, others this process alone: the child takes two within a second for one.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(signal, () => child.kill(signal));
  child.on('error', (error) => fail(error.message));
  child.on('exit', (code, signal) =>
    process.exit(signal ? 128 + (signal === 'SIGINT' ? 2 : 15) : (code ?? 1)),
  );
}

function run(program, args, failure, cwd = root) {
  const { status } = spawnSync(program, args, { cwd, stdio: ['ignore', 2, 2] });
  if (status !== 0) fail(failure);
}

function runs(program) {
  return existsSync(program) && spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
}

function onPath(program) {
  return (process.env.PATH ?? '')
    .split(':')
    .some((directory) => directory !== '' && existsSync(join(directory, program)));
}

function step(text) {
  process.stderr.write(`outrider: ${text}\n`);
}

function fail(text) {
  process.stderr.write(`outrider: ${text}\n`);
  process.exit(1);
}
