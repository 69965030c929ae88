import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { OutriderError } from '#core/errors';
import { createBoxes, hasModules, type LiveBox } from './agent/test-rig.ts';
import { parseRequirements } from './dependencies.ts';
import { type Ending, NO_EGRESS } from './exec.ts';
import {
  type Files,
  type InstallStep,
  installSteps,
  outcomeOf,
  packageEnvironment,
  waitingBeside,
} from './install.ts';
import { installedPackages, PIP_DIRECTORY } from './packages.ts';

// What was installed is read out of real sandboxes; test/parts/dependencies.test.ts has the real managers.

const boxes = createBoxes(225_000);
let box: LiveBox;
before(async () => {
  box = await boxes.profile('python');
});
after(() => boxes.close());
beforeEach(async () => {
  for (const path of ['/workspace/.outrider', '/workspace/node_modules'])
    await box.link.remove(path, true).catch(() => {});
});

const SIX = `${PIP_DIRECTORY}/six-1.16.0.dist-info/METADATA`;
const put = async (files: Readonly<Record<string, string>>) => {
  for (const [path, text] of Object.entries(files))
    await box.link.write(path, [Buffer.from(text)], 0o644);
};
const named = (name: string, version = '1.0.0') => JSON.stringify({ name, version });
const MODULES = '/workspace/node_modules';

test('pip: every distribution is found by the name that it gives itself', async () => {
  await put({
    [SIX]: 'Metadata-Version: 2.1\nName: six\nVersion: 1.16.0\n\nName: not this\n',
    [`${PIP_DIRECTORY}/zope.interface-6.1.dist-info/METADATA`]: 'Name: zope.interface\r\n',
    [`${PIP_DIRECTORY}/six.py`]: '',
    [`${PIP_DIRECTORY}/bin/tool`]: '',
  });
  assert.deepEqual(await installedPackages('pip', box.link), [
    { name: 'six', version: '1.16.0' },
    { name: 'zope.interface', version: '6.1' },
  ]);
});

test('pip: one that calls itself otherwise than its directory has both names', async () => {
  await put({ [SIX]: 'Name: nice\n' });
  const names = (await installedPackages('pip', box.link)).map(({ name }) => name);
  assert.deepEqual(names, ['nice', 'six']);
});

test('npm: packages are found in scopes, beneath others and behind aliases', async () => {
  await put({
    [`${MODULES}/a/package.json`]: named('a'),
    [`${MODULES}/a/node_modules/b/package.json`]: named('b', '2.0.0'),
    [`${MODULES}/a/node_modules/@s/c/package.json`]: named('@s/c'),
    [`${MODULES}/@s/c/package.json`]: named('@s/c'),
    [`${MODULES}/@s/c/node_modules/d/package.json`]: named('d'),
    [`${MODULES}/nice/package.json`]: named('evil'),
    [`${MODULES}/.bin/tool`]: '',
    [`${MODULES}/.package-lock.json`]: '{}',
  });
  const found = await installedPackages('npm', box.link);
  assert.deepEqual(found.map(({ name, version }) => `${name} ${version}`).toSorted(), [
    '@s/c 1.0.0',
    '@s/c 1.0.0',
    'a 1.0.0',
    'b 2.0.0',
    'd 1.0.0',
    'evil 1.0.0',
    'nice 1.0.0',
  ]);
});

test('where nothing was installed, nothing is found', async () => {
  assert.deepEqual(await installedPackages('pip', box.link), []);
  assert.deepEqual(await installedPackages('npm', box.link), []);
});

const untold: readonly (readonly [string, 'pip' | 'npm', Record<string, string>])[] = [
  ['a distribution without a name', 'pip', { [SIX]: 'Metadata-Version: 2.1\n' }],
  ['a distribution whose name is none', 'pip', { [SIX]: 'Name: --evil\n' }],
  ['a package without a name', 'npm', { [`${MODULES}/a/package.json`]: '{}' }],
  ['a package whose description is none', 'npm', { [`${MODULES}/a/package.json`]: '[' }],
  ['a directory that is no package', 'npm', { [`${MODULES}/a/index.js`]: '' }],
];
const EXITED: Ending = {
  killedBy: 'exit',
  exitCode: 0,
  signal: '',
  detail: '',
  errorCode: '',
  wallMs: 0,
  cpuMs: 0,
  maxRssBytes: 0,
  exception: undefined,
  artefacts: [],
  stdout: { captured: 0, total: 0, dropped: 0 },
  stderr: { captured: 0, total: 0, dropped: 0 },
  egress: NO_EGRESS,
};
const step = (manager: 'pip' | 'npm'): InstallStep => ({ manager, argv: [], env: {} });
const outcome = (manager: 'pip' | 'npm', ending: Partial<Ending> = {}, said = '') =>
  outcomeOf(step(manager), { ...EXITED, ...ending }, said, box.link, {
    managers: ['pip', 'npm'],
    allow: ['a'],
    block: ['evil'],
  });

for (const [what, manager, files] of untold)
  test(`${what} is not passed over`, async () => {
    await put(files);
    const { error } = await outcome(manager);
    assert.match(error?.code ?? 'none', /^DEPENDENCY_/);
  });

test('a link in place of a package is refused, since it could be anything', async () => {
  await put({ [`${MODULES}/a/package.json`]: named('a') });
  assert.equal((await outcome('npm')).error, undefined);
  await box.run({ argv: ['ln', '-s', '/tmp', `${MODULES}/b`] });
  assert.equal((await outcome('npm')).error?.code, 'DEPENDENCY_REFUSED');
});

test('what came along need not be asked for, and a block holds for it', async () => {
  await put({ [`${MODULES}/unheard/package.json`]: named('unheard') });
  assert.deepEqual(await outcome('npm'), {
    detail: 'install: 1 packages with npm: unheard 1.0.0',
    error: undefined,
  });
  await put({ [`${MODULES}/unheard/node_modules/x/package.json`]: named('evil') });
  assert.equal((await outcome('npm')).error?.code, 'DEPENDENCY_REFUSED');
});

const ends: readonly (readonly [string, Partial<Ending>, string])[] = [
  ['a manager that fails', { exitCode: 1 }, 'DEPENDENCY_FAILED'],
  ['too little memory', { killedBy: 'oom', detail: 'limit' }, 'DEPENDENCY_FAILED'],
  ['the time-out', { killedBy: 'timeout', errorCode: 'DEADLINE_EXCEEDED' }, 'DEADLINE_EXCEEDED'],
  ['a caller that is gone', { killedBy: 'disconnect' }, 'CANCELLED'],
  ['a runner that stops', { killedBy: 'runner', errorCode: 'DRAINING' }, 'DRAINING'],
];
for (const [what, ending, code] of ends)
  test(`${what} is ${code}`, async () =>
    assert.equal((await outcome('pip', ending)).error?.code, code));

test('the message has the last lines, without secrets, colours and control characters', async () => {
  const lines = Array.from({ length: 40 }, (_, index) => `line ${index}`).join('\n');
  const said = `${lines}\n\x1b[31mERROR\x1b[0m at https://user:word@index.example/\u0007\r\n`;
  const message = (await outcome('pip', { exitCode: 1 }, said)).error?.message ?? '';
  assert.equal(message.split('\n').length, 13);
  assert.equal(message.split('\n')[0], 'pip failed:');
  assert.equal(message.split('\n').at(-1), 'ERROR at https://[REDACTED]@index.example/');
});

test('a sandbox without npm says so, and pip goes on without it', async () => {
  const without: Files = {
    list: refuse,
    read: refuse,
    remove: refuse,
    stat: () => Promise.reject(new OutriderError('FILE_NOT_FOUND', 'no such file')),
  };
  const both = parseRequirements([
    { manager: 'pip', requirement: 'a' },
    { manager: 'npm', requirement: 'b' },
  ]);
  const registries = { pip: 'https://index.example/simple/', npm: 'https://registry.example/' };
  await assert.rejects(installSteps(both, registries, without), { code: 'DEPENDENCY_FAILED' });
  const [only, ...more] = await installSteps(both.slice(0, 1), registries, without);
  assert.equal(only?.manager, 'pip');
  assert.deepEqual(more, []);
  // With TLS the index is no host to be trusted without it.
  assert.ok(!only?.argv.includes('--trusted-host'));
});

test('a waiting interpreter takes PYTHONPATH from its program, as one that is started with it', async () => {
  await put({
    [`${PIP_DIRECTORY}/both.py`]: 'FROM = "packages"\n',
    [`${PIP_DIRECTORY}/json.py`]: 'FROM = "packages"\n',
    '/workspace/own/both.py': 'FROM = "own"\n',
    '/workspace/own/mine.py': 'FROM = "own"\n',
  });
  const code = 'import both, mine; print(both.FROM, mine.FROM)';
  const { env } = waitingBeside('python');
  const run = (environment: Readonly<Record<string, string>>) =>
    box.run({ code, env: environment });
  const { stdout } = await run(packageEnvironment({ ...env, PYTHONPATH: '/workspace/own' }));
  assert.equal(stdout, 'packages own\n');
  assert.match((await run(env)).stderr, /No module named 'both'/);
});

test('beside packages nothing waits that has imported another version of one', async (t) => {
  if (!hasModules('numpy', 'pandas', 'matplotlib')) return t.skip('the host has no numpy');
  const data = await boxes.profile('python-data');
  const numpy = Buffer.from('__version__ = "installed"\n');
  await data.link.write(`${PIP_DIRECTORY}/numpy.py`, [numpy], 0o644);
  const { env } = waitingBeside('python-data');
  const order = { code: 'import numpy; print(numpy.__version__)', env: packageEnvironment(env) };
  assert.notEqual((await data.run(order)).stdout, 'installed\n', 'what had waited has the other');
  data.link.become(waitingBeside('python-data'));
  await data.link.ready();
  assert.equal((await data.run(order)).stdout, 'installed\n');
  assert.equal(env['MPLBACKEND'], 'Agg');
});

async function refuse(): Promise<never> {
  throw new OutriderError('FILE_REFUSED', 'not asked for');
}
