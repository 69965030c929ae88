import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { nodeProblem } from './node-version.ts';

const VERSIONS = [
  ['v18.0.0', false],
  ['v20.20.2', false],
  ['v22.9.0', false],
  ['v22.18.9', false],
  ['v22.19.0', true],
  ['v23.0.0', true],
  ['v26.10.0', true],
  ['v27.0.0-nightly', true],
] as const;

for (const [version, runs] of VERSIONS)
  test(`the command ${runs ? 'runs' : 'does not run'} on ${version}`, () => {
    assert.equal(nodeProblem(version) === undefined, runs);
  });

/** Makes this Node look like an old one, up to what its `node:module` exports. */
const OLD = `
  import { registerHooks } from 'node:module';
  Object.defineProperty(process, 'version', { value: 'v20.20.2' });
  const url = 'data:text/javascript,export const createRequire = undefined';
  registerHooks({
    resolve: (name, context, next) =>
      name === 'node:module' ? { url, format: 'module', shortCircuit: true } : next(name, context),
  });
`;

function run(...options: readonly string[]) {
  const node = ['--conditions=outrider-source', ...options, 'cli/main.ts', '--help'];
  return spawnSync(process.execPath, node, { cwd: packageRoot, encoding: 'utf8' });
}

test('an older Node is told which one is needed, in one line', () => {
  const preload = `data:text/javascript,${encodeURIComponent(OLD)}`;
  const { status, stdout, stderr } = run('--import', preload);
  assert.equal(status, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /^outrider: this is Node v20\.20\.2, and the command needs 22\.19[^\n]*\n$/);
  const control = run();
  assert.equal(control.status, 0, control.stderr);
  assert.match(control.stdout, /^usage: outrider/);
});
