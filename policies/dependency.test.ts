import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dependencyRefusal, isPackageName, packageName } from './dependency.ts';
import type { DependenciesSpec, PackageManager } from './document.ts';

const SPEC: DependenciesSpec = {
  managers: ['pip', 'npm'],
  allow: ['Typing_Extensions', 'numpy', 'types-*', '@acme/*', 'left-pad'],
  block: ['types-evil', '@acme/leaky', 'evil*'],
};

const asked: readonly (readonly [PackageManager, string, boolean, string])[] = [
  ['pip', 'numpy', true, 'a name that is listed'],
  ['pip', 'typing-extensions', true, 'PEP 503 makes one name of both'],
  ['pip', 'TYPING.extensions', true, 'whatever stands between the words'],
  ['pip', 'numpy-base', false, 'a name is not the beginning of another'],
  ['pip', 'types-requests', true, 'the beginning of a name'],
  ['pip', 'Types_Requests', true, 'the beginning, too, is compared by PEP 503'],
  ['pip', 'types', false, 'the beginning has a dash'],
  ['pip', 'types-evil', false, 'a block beats an allow'],
  ['pip', 'Types.Evil', false, 'a block is no matter of spelling'],
  ['npm', '@acme/core', true, 'everything of a scope'],
  ['npm', '@acme/leaky', false, 'but what is blocked'],
  ['npm', '@Acme/Leaky', false, 'npm knows names in lower case'],
  ['npm', '@other/core', false, 'another scope'],
  ['npm', 'core', false, 'no scope at all'],
  ['npm', 'left-pad', true, 'a plain name'],
  ['npm', 'left_pad', false, 'npm keeps dashes and underscores apart'],
  ['npm', 'evil-twin', false, 'the beginning of blocked names'],
];
for (const [manager, name, may, why] of asked)
  test(`${manager} ${name} may ${may ? '' : 'not '}be asked for: ${why}`, () =>
    assert.equal(dependencyRefusal(SPEC, manager, name, true) === undefined, may));

test('what another package brings along need not be listed, and must not be blocked', () => {
  assert.equal(dependencyRefusal(SPEC, 'pip', 'six', false), undefined);
  assert.match(dependencyRefusal(SPEC, 'pip', 'six', true) ?? '', /may ask for/);
  assert.match(dependencyRefusal(SPEC, 'npm', 'evil', false) ?? '', /must not have/);
});

test('without a list of what is allowed, everything is that is not blocked', () => {
  const open: DependenciesSpec = { managers: ['pip'], block: ['evil'] };
  assert.equal(dependencyRefusal(open, 'pip', 'anything', true), undefined);
  assert.match(dependencyRefusal(open, 'pip', 'EVIL', true) ?? '', /must not have/);
});

test('a role that names no dependencies, or not the manager, installs nothing', () => {
  assert.match(dependencyRefusal(undefined, 'pip', 'numpy', true) ?? '', /install nothing/);
  const pip: DependenciesSpec = { managers: ['pip'] };
  assert.match(dependencyRefusal(pip, 'npm', 'left-pad', true) ?? '', /nothing with npm/);
});

const names: readonly (readonly [PackageManager, string, boolean])[] = [
  ['pip', 'zope.interface', true],
  ['pip', 'a', true],
  ['pip', '-r', false],
  ['pip', 'a-', false],
  ['pip', 'a/b', false],
  ['pip', '@a/b', false],
  ['pip', '', false],
  ['npm', '@types/node', true],
  ['npm', 'JSONStream', true],
  ['npm', '.hidden', false],
  ['npm', 'a/b', false],
  ['npm', '@a', false],
  ['npm', '@a/..', false],
  ['npm', 'a b', false],
  ['npm', '-g', false],
  ['npm', '@-/g', false],
  ['npm', 'x'.repeat(215), false],
];
for (const [manager, name, is] of names)
  test(`"${name.slice(0, 20)}" is ${is ? 'a' : 'no'} name for ${manager}`, () =>
    assert.equal(isPackageName(manager, name), is));

test('a name has one spelling', () => {
  assert.equal(packageName('pip', 'Foo__Bar.-baz'), 'foo-bar-baz');
  assert.equal(packageName('npm', '@Scope/Foo_Bar'), '@scope/foo_bar');
});
