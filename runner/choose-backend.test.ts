import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Tier } from './backends/backend.ts';
import { chooseBackend, chooseImage, type KnownBackend } from './choose-backend.ts';

const BUBBLEWRAP: KnownBackend = {
  name: 'bubblewrap',
  tier: 'namespaces',
  images: [],
  limitsAddressSpace: false,
  problem: undefined,
};
const DOCKER: KnownBackend = {
  name: 'docker',
  tier: 'container',
  images: ['base:1', 'data:1', 'sha256:00'],
  limitsAddressSpace: false,
  problem: undefined,
};
const GVISOR: KnownBackend = { ...DOCKER, name: 'gvisor', tier: 'gvisor' };
const ALL = [BUBBLEWRAP, DOCKER, GVISOR];

describe('the backend of a request is', () => {
  const cases: readonly (readonly [string, string, readonly (Tier | undefined)[], string])[] = [
    ['the first, where nothing is demanded', '', [], 'bubblewrap'],
    ['the first that is strong enough', '', ['container'], 'docker'],
    ['the first that is strong enough for both', '', ['container', 'gvisor'], 'gvisor'],
    ['the one that is named', 'gvisor', ['namespaces', undefined], 'gvisor'],
  ];
  for (const [what, asked, demanded, name] of cases)
    test(what, () => assert.equal(chooseBackend(ALL, asked, demanded).name, name));
});

describe('no backend is chosen', () => {
  const broken = { ...DOCKER, problem: 'start dockerd' };
  const cases: readonly (readonly [
    string,
    readonly KnownBackend[],
    string,
    readonly Tier[],
    string,
  ])[] = [
    ['that is not configured', [BUBBLEWRAP], 'docker', [], 'BACKEND_UNAVAILABLE'],
    ['that is named and too weak', ALL, 'docker', ['gvisor'], 'BACKEND_TOO_WEAK'],
    ['where none is strong enough', [BUBBLEWRAP, DOCKER], '', ['gvisor'], 'BACKEND_TOO_WEAK'],
    ['that is named and cannot be used', [BUBBLEWRAP, broken], 'docker', [], 'BACKEND_UNAVAILABLE'],
    [
      'in the place of the first that is strong enough and cannot be used',
      [BUBBLEWRAP, broken, GVISOR],
      '',
      ['container'],
      'BACKEND_UNAVAILABLE',
    ],
  ];
  for (const [what, backends, asked, demanded, code] of cases)
    test(`${what}: ${code}`, () => {
      assert.throws(() => chooseBackend(backends, asked, demanded), { code });
    });
});

describe('the image of a request is', () => {
  const cases: readonly (readonly [
    string,
    KnownBackend,
    string,
    readonly string[] | undefined,
    string,
  ])[] = [
    ['none, where the backend has none', BUBBLEWRAP, '', ['data:1'], ''],
    ["the runner's default", DOCKER, '', undefined, 'base:1'],
    ["the runner's default by its name", DOCKER, 'base:1', undefined, 'base:1'],
    ["the role's, where the role names one", DOCKER, '', ['data:1'], 'data:1'],
    [
      'the one that is named, where both allow it',
      DOCKER,
      'sha256:00',
      ['base:1', 'sha256:00'],
      'sha256:00',
    ],
  ];
  for (const [what, backend, asked, ofRole, image] of cases)
    test(what, () => assert.equal(chooseImage(backend, asked, ofRole), image));
});

describe('an image is refused', () => {
  const cases: readonly (readonly [string, KnownBackend, string, readonly string[] | undefined])[] =
    [
      ['where the backend has none', BUBBLEWRAP, 'base:1', undefined],
      ['that the runner does not allow', DOCKER, 'other:1', ['other:1']],
      ['that the role does not allow', DOCKER, 'data:1', ['base:1']],
      ['that a role without a list did not get', DOCKER, 'data:1', undefined],
      ['where runner and role allow none in common', DOCKER, '', ['other:1']],
      ['where the role allows none', DOCKER, '', []],
    ];
  for (const [what, backend, asked, ofRole] of cases)
    test(what, () => {
      assert.throws(() => chooseImage(backend, asked, ofRole), { code: 'IMAGE_NOT_ALLOWED' });
    });
});
