import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpuMsOf } from '#core/testing/cpu';
import { assertInstallable, parseRequirements, type Registries } from './dependencies.ts';

const parse = (manager: string, requirement: string) =>
  parseRequirements([{ manager, requirement }])[0];

/** The manager, what is asked, its name, and what the manager is told. */
const good: readonly (readonly [string, string, string, string?])[] = [
  ['pip', 'requests', 'requests'],
  ['pip', 'requests==2.32.3', 'requests'],
  ['pip', ' requests >= 2.31 , < 3 ', 'requests', 'requests>=2.31,<3'],
  ['pip', 'requests[socks,use_chardet]~=2.31', 'requests'],
  ['pip', 'zope.interface!=6.*', 'zope.interface'],
  ['pip', 'torch==2.1.0+cpu', 'torch'],
  ['pip', 'a==1!2.0rc1.post3.dev4', 'a'],
  ['npm', 'left-pad', 'left-pad'],
  ['npm', 'left-pad@1.3.0', 'left-pad'],
  ['npm', '@types/node@^20', '@types/node'],
  ['npm', 'a@>= 1.2 < 2', 'a', 'a@>=1.2 <2'],
  ['npm', 'a@1.2 - 1.4 || ^2.0.0-rc.1', 'a'],
  ['npm', 'a@1.x', 'a'],
  ['npm', 'a@latest', 'a'],
  ['npm', 'socket.io@4', 'socket.io'],
];
for (const [manager, text, name, told = text] of good)
  test(`${manager} ${text} asks for ${name}`, () =>
    assert.deepEqual(parse(manager, text), { manager, name, text: told }));

const bad: readonly (readonly [string, string, string])[] = [
  ['pip', '', 'nothing'],
  ['pip', '-r', 'an option'],
  ['pip', '--index-url=https://evil.example', 'a long option'],
  ['pip', 'https://evil.example/a.whl', 'an address'],
  ['pip', 'a @ https://evil.example/a.whl', 'a direct reference'],
  ['pip', 'git+https://evil.example/a', 'a repository'],
  ['pip', './a', 'a path'],
  ['pip', '/etc/passwd', 'an absolute path'],
  ['pip', 'a.whl', 'a wheel'],
  ['pip', 'a-1.0.tar.gz', 'an archive'],
  ['pip', 'a==1.0.zip', 'a version that ends as an archive'],
  ['pip', 'a; python_version > "3"', 'a marker'],
  ['pip', 'a==1.0; os.system("x")', 'a marker with code'],
  ['pip', 'a===1.0', 'arbitrary equality'],
  ['pip', 'a==', 'no version'],
  ['pip', 'a b', 'two words'],
  ['pip', 'a --pre', 'an option behind a name'],
  ['pip', 'a==1.0 --hash=sha256:0', 'an option behind a version'],
  ['pip', 'a\n--pre', 'two lines'],
  ['pip', 'a[b', 'an open extra'],
  ['pip', `a==${'1'.repeat(300)}`, 'too much'],
  ['npm', '', 'nothing'],
  ['npm', '--registry=https://evil.example', 'an option'],
  ['npm', '-g', 'a short option'],
  ['npm', 'a@npm:evil@1', 'an alias'],
  ['npm', 'a@file:../x', 'a file'],
  ['npm', 'a@..', 'a directory as a version'],
  ['npm', '..', 'a directory'],
  ['npm', './a', 'a path'],
  ['npm', 'a/b', 'a repository of GitHub'],
  ['npm', 'a@b/c', 'a repository as a version'],
  ['npm', 'a@git+ssh://evil.example/x', 'a git address'],
  ['npm', 'a@https://evil.example/x.tgz', 'an address'],
  ['npm', 'a@workspace:*', 'a workspace'],
  ['npm', 'a@1.0.0-x.tgz', 'a version that is taken for a file'],
  ['npm', 'a.tgz', 'a file by its name'],
  ['npm', '@scope', 'a scope alone'],
  ['npm', '@a/b/c', 'too many parts'],
  ['npm', 'a@1 && x', 'a command'],
  ['npm', 'a@1\n-g', 'two lines'],
  ['npm', 'a@', 'no version'],
  ['gem', 'rails', 'an unknown manager'],
  ['', 'requests', 'no manager'],
];
for (const [manager, text, why] of bad)
  test(`${manager} "${text.slice(0, 40)}" is refused: ${why}`, () =>
    assert.throws(() => parse(manager, text), { code: 'INVALID_REQUEST' }));

test('a megabyte of spaces is refused before anything looks through it', async () => {
  const parsing = () => parse('pip', `a${' '.repeat(2 ** 20)}a`);
  const took = await cpuMsOf(() => assert.throws(parsing, { code: 'INVALID_REQUEST' }));
  assert.ok(took < 5_000, `${took} ms: looking through it took minutes`);
});

test('at most 32 are taken', () => {
  const many = (count: number) =>
    Array.from({ length: count }, (_, index) => ({ manager: 'pip', requirement: `a${index}` }));
  assert.equal(parseRequirements(many(32)).length, 32);
  assert.throws(() => parseRequirements(many(33)), { code: 'INVALID_REQUEST' });
});

const BOTH: Registries = { pip: 'http://index.example/', npm: 'http://registry.example/' };
const asked = parseRequirements([
  { manager: 'pip', requirement: 'Requests==2' },
  { manager: 'npm', requirement: 'left-pad' },
]);

test('what the role allows and the runner has a registry for may be installed', () => {
  assertInstallable(asked, { managers: ['pip', 'npm'], allow: ['requests', 'left-pad'] }, BOTH);
  assertInstallable([], undefined, {});
});

const refused = [
  ['a role without dependencies', undefined, BOTH, /the role may install nothing$/],
  ['a role without the manager', { managers: ['pip'] }, BOTH, /nothing with npm/],
  ['a block', { managers: ['pip', 'npm'], block: ['requests'] }, BOTH, /must not have .* Requests/],
  ['what is not listed', { managers: ['pip', 'npm'], allow: ['x'] }, BOTH, /may ask for/],
  [
    'a runner without an index',
    { managers: ['pip', 'npm'] },
    { npm: BOTH.npm },
    /runner\.pipIndex is not configured/,
  ],
  [
    'a runner without a registry',
    { managers: ['pip', 'npm'] },
    { pip: BOTH.pip },
    /runner\.npmRegistry is not configured/,
  ],
] as const;
for (const [what, role, registries, message] of refused)
  test(`${what} refuses, and says so`, () =>
    assert.throws(() => assertInstallable(asked, role, registries), {
      code: 'DEPENDENCY_REFUSED',
      message,
    }));
