import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  assertRunsOn,
  CODE_MAX_BYTES,
  type Program,
  programOrder,
  sandboxEnvironment,
  waitingIn,
} from './profiles.ts';

const source = (language: string, code = 'x', fileName = '', args: string[] = []): Program => ({
  kind: 'source',
  language,
  code,
  fileName,
  args,
});

describe('a program becomes an order', () => {
  const cases: readonly (readonly [string, Program, object])[] = [
    ['python', source('python'), { language: 'python', code: 'x', name: 'main.py', args: [] }],
    [
      'python with a name',
      source('python', 'x', 'a.py', ['1']),
      { language: 'python', code: 'x', name: 'a.py', args: ['1'] },
    ],
    [
      'shell',
      source('shell', 'ls', '', ['1']),
      { language: 'shell', code: 'ls', name: 'main.sh', args: ['1'] },
    ],
    ['a command', { kind: 'command', argv: ['ls', ''] }, { argv: ['ls', ''] }],
    [
      'the longest',
      source('python', 'x'.repeat(CODE_MAX_BYTES)),
      { language: 'python', code: 'x'.repeat(CODE_MAX_BYTES), name: 'main.py', args: [] },
    ],
  ];
  for (const [what, program, order] of cases)
    test(what, () => {
      assert.deepEqual(programOrder(program, 'python'), order);
    });

  for (const [language, name] of [
    ['javascript', 'main.mjs'],
    ['typescript', 'main.mts'],
    ['shell', 'main.sh'],
  ] as const)
    test(`${language} of the profile node is called ${name}`, () => {
      assert.deepEqual(programOrder(source(language), 'node'), {
        language,
        code: 'x',
        name,
        args: [],
      });
    });

  const refused: readonly (readonly [string, Program, string, string])[] = [
    ['python in node', source('python'), 'node', 'INVALID_REQUEST'],
    ['python in shell', source('python'), 'shell', 'INVALID_REQUEST'],
    ['a language that the profile does not run', source('javascript'), 'python', 'INVALID_REQUEST'],
    ['no language', source(''), 'python', 'INVALID_REQUEST'],
    ['a profile that is not known', source('python'), 'other', 'PROFILE_UNKNOWN'],
    ['an empty command', { kind: 'command', argv: [] }, 'python', 'INVALID_REQUEST'],
    ['a NUL in a command', { kind: 'command', argv: ['ls', 'a\0b'] }, 'python', 'INVALID_REQUEST'],
    ['a NUL in a shell word', source('shell', 'ls\0'), 'python', 'INVALID_REQUEST'],
    [
      'more than 1 MiB of UTF-8',
      source('python', 'é'.repeat(CODE_MAX_BYTES / 2 + 1)),
      'python',
      'BODY_TOO_LARGE',
    ],
  ];
  for (const [what, program, profile, code] of refused)
    test(`${what} is ${code}`, () => {
      assert.throws(() => programOrder(program, profile), { code });
    });
});

test('Node is refused where memory is limited as address space; nothing else is', () => {
  const without = { limitsAddressSpace: true };
  assert.throws(() => assertRunsOn('node', without), { code: 'BACKEND_UNAVAILABLE' });
  assert.doesNotThrow(() => assertRunsOn('node', { limitsAddressSpace: false }));
  for (const profile of ['python', 'python-data', 'shell'])
    assert.doesNotThrow(() => assertRunsOn(profile, without));
});

describe('the environment of a sandbox', () => {
  for (const [profile, name, value] of [
    ['python', 'PATH', '/opt/node/bin:/usr/local/bin:/usr/bin:/bin'],
    ['python', 'MPLBACKEND', undefined],
    ['python-data', 'MPLBACKEND', 'Agg'],
    ['python-data', 'OPENBLAS_NUM_THREADS', '1'],
    ['node', 'NODE_USE_ENV_PROXY', '1'],
    ['python', 'NODE_USE_ENV_PROXY', '1'],
  ] as const)
    test(`${name} of the profile ${profile} is ${value ?? 'not set'}`, () => {
      assert.equal(sandboxEnvironment({}, profile)[name], value);
    });

  test('of what waits is the same, without what a program asks for', () => {
    assert.deepEqual(waitingIn('node'), { profile: 'node', env: sandboxEnvironment({}, 'node') });
    assert.throws(() => waitingIn('cobol'), { code: 'PROFILE_UNKNOWN' });
  });

  test('is the few variables of its own and what was asked for, and nothing of this process', () => {
    const env = sandboxEnvironment({ MY_VAR: '1', PATH: '/opt/bin', _x: '' }, 'python');
    assert.equal(env['MY_VAR'], '1');
    assert.equal(env['_x'], '');
    assert.equal(env['PATH'], '/opt/bin');
    assert.equal(env['HTTPS_PROXY'], 'http://127.0.0.1:3128');
    assert.equal(env['NODE_OPTIONS'], undefined);
    assert.deepEqual(
      Object.keys(sandboxEnvironment({}, 'python')).filter((name) =>
        /TOKEN|KEY|SECRET/i.test(name),
      ),
      [],
    );
  });

  for (const name of [
    'HTTP_PROXY',
    'https_proxy',
    'ALL_PROXY',
    'No_Proxy',
    'ftp_proxy',
    'grpc_proxy',
    'OUTRIDER_URL',
    'outrider_anything',
  ])
    test(`${name} may not be set: it belongs to the sandbox`, () => {
      assert.throws(() => sandboxEnvironment({ [name]: 'http://evil.test' }, 'python'), {
        code: 'INVALID_REQUEST',
        message: `env: ${name} belongs to the sandbox`,
      });
    });

  for (const [name, value] of [
    ['', 'x'],
    ['1A', 'x'],
    ['A=B', 'x'],
    ['A B', 'x'],
    ['A\n', 'x'],
    ['É', 'x'],
    ['A', 'x\0y'],
  ] as const)
    test(`${JSON.stringify(name)}=${JSON.stringify(value)} is not a usable variable`, () => {
      assert.throws(() => sandboxEnvironment({ [name]: value }, 'python'), {
        code: 'INVALID_REQUEST',
      });
    });
});
