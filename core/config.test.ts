import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import {
  address,
  assertSectionKept,
  bool,
  bytes,
  type ConfigSources,
  choice,
  duration,
  type Field,
  formatDuration,
  integer,
  isGiven,
  list,
  loadConfig,
  optionalAddress,
  optionalText,
  parseBytes,
  parseDurationMs,
  record,
  substituteEnv,
  text,
} from './config.ts';

const spec = {
  listen: address('where', '127.0.0.1:1'),
  'auth.jwks': text('keys', 'none'),
  allowedHosts: list('hosts', text('host'), []),
  insecure: bool('no', false),
};

const load = (sources: Partial<ConfigSources>) =>
  loadConfig('gateway', spec, { argv: [], env: {}, ...sources });
const file = (content: string) => ({ name: 'mesh.yaml', text: content });

/** The problems, one a line. */
function problems(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof Error && 'code' in error);
    assert.equal(error.code, 'CONFIG_INVALID');
    return error.message.split('\n');
  }
  return [];
}

describe('precedence', () => {
  const inFile = file('gateway: {auth: {jwks: file}}');
  const env = { OUTRIDER_GATEWAY_AUTH_JWKS: 'env' };
  const argv = ['--auth-jwks', 'argv'];
  const cases: readonly (readonly [string, Partial<ConfigSources>])[] = [
    ['none', {}],
    ['file', { file: inFile }],
    ['env', { file: inFile, env }],
    ['argv', { file: inFile, env, argv }],
    ['argv', { argv: ['--auth-jwks=argv'], env }],
    ['env', { env }],
    ['last', { argv: [...argv, '--auth-jwks=last'] }],
  ];
  test('a key is given by the file or the environment, and not by its default', () => {
    const given = (sources: Partial<ConfigSources>) =>
      isGiven('gateway', spec, 'auth.jwks', { env: {}, ...sources });
    assert.deepEqual(
      [{}, { file: inFile }, { env }, { file: file('gateway: {insecure: true}') }].map(given),
      [false, true, true, false],
    );
  });
  for (const [expected, sources] of cases)
    test(`${Object.keys(sources).join(' over ') || 'default'} gives ${expected}`, () => {
      assert.equal(load(sources)['auth.jwks'], expected);
    });
});

test('L5: every key has three spellings of one meaning', () => {
  const expected = { kind: 'tcp', host: '127.0.0.1', port: 9 };
  const sources: Partial<ConfigSources>[] = [
    { argv: ['--allowed-hosts', 'a,b', '--listen', '127.0.0.1:9', '--insecure'] },
    {
      env: {
        OUTRIDER_GATEWAY_ALLOWED_HOSTS: 'a, b',
        OUTRIDER_GATEWAY_LISTEN: '127.0.0.1:9',
        OUTRIDER_GATEWAY_INSECURE: 'true',
      },
    },
    {
      file: file(
        'gateway:\n  allowedHosts: [a, b]\n  listen: 127.0.0.1:9\n  insecure: true\nrunner: {}',
      ),
    },
  ];
  for (const source of sources) {
    const { listen, allowedHosts, insecure } = load(source);
    assert.deepEqual(
      { listen, allowedHosts, insecure },
      {
        listen: expected,
        allowedHosts: ['a', 'b'],
        insecure: true,
      },
    );
  }
});

test('L5: all problems are said at once, each naming its key and where it came from', () => {
  const found = problems(() =>
    loadConfig(
      'gateway',
      { ...spec, must: text('something needed') },
      {
        argv: ['--listn', 'x', '--insecure=maybe'],
        env: { OUTRIDER_GATEWAY_LISTEN: 'nonsense', OUTRIDER_GATEWAY_ALOWED_HOSTS: 'a' },
        file: file('gateway: {auth: {jwk: x}, insecur: true}\ngatway: {}'),
      },
    ),
  );
  const expected = [
    /mesh\.yaml: unknown section "gatway" \(did you mean "gateway"\?\)/,
    /mesh\.yaml: unknown key "gateway\.auth\.jwk" \(did you mean "auth\.jwks"\?\)/,
    /mesh\.yaml: unknown key "gateway\.insecur" \(did you mean "insecure"\?\)/,
    /unknown environment variable OUTRIDER_GATEWAY_ALOWED_HOSTS \(did you mean "OUTRIDER_GATEWAY_ALLOWED_HOSTS"\?\)/,
    /unknown option --listn \(did you mean "--listen"\?\)/,
    /gateway\.listen \(from environment OUTRIDER_GATEWAY_LISTEN\): "nonsense" is not an address/,
    /gateway\.insecure \(from --insecure\): must be true or false/,
    /gateway\.must is required \(text\): something needed/,
  ];
  for (const line of expected)
    assert.ok(
      found.some((problem) => line.test(problem)),
      `${line}`,
    );
  assert.equal(found.length, expected.length, found.join('\n'));
});

describe('the file', () => {
  const refused: readonly (readonly [string, string, RegExp])[] = [
    ['broken YAML', 'gateway: {a: [}', /mesh\.yaml: /],
    ['one key twice', 'gateway: {listen: a:1}\ngateway: {}', /mesh\.yaml: Map keys must be unique/],
    ['a list at the top', '- gateway', /must be a mapping with a section/],
    ['a section that is a list', 'gateway: [1]', /gateway must be a mapping/],
    ['a value where keys are', 'gateway: {auth: x}', /unknown key "gateway\.auth"/],
    [
      'a mapping where a value is',
      'gateway: {insecure: {a: 1}}',
      /insecure .*must be true or false/,
    ],
    [
      'an alias',
      'gateway: {auth: &a {jwks: x}}\nrunner: *a',
      /mesh\.yaml: must not use YAML aliases/,
    ],
  ];
  for (const [what, content, message] of refused)
    test(`${what} is refused`, () => {
      const found = problems(() => load({ file: file(content) }));
      assert.match(found.join('\n'), message);
    });

  test('an empty one, one of comments and one of other parts alone change nothing', () => {
    for (const content of ['', '# nothing', 'runner: {anything: goes}', 'gateway:'])
      assert.equal(load({ file: file(content) })['auth.jwks'], 'none');
  });

  test('${VAR} and ${VAR:-default} are replaced before it is read', () => {
    const content = 'gateway: {auth: {jwks: "${KEYS}"}, listen: "${AT:-127.0.0.1:5}"}';
    const { listen, 'auth.jwks': jwks } = load({ file: file(content), env: { KEYS: 'k' } });
    assert.deepEqual(
      { listen, jwks },
      {
        listen: { kind: 'tcp', host: '127.0.0.1', port: 5 },
        jwks: 'k',
      },
    );
  });
});

describe('substitution', () => {
  const vectors: { env: Record<string, string>; cases: [string, string][] } = JSON.parse(
    readFileSync(new URL('vectors/env_subst_cases.json', import.meta.url), 'utf8'),
  );
  for (const [from, to] of vectors.cases)
    test(`L5: ${from} is ${to}`, () => {
      assert.equal(substituteEnv(from, vectors.env), to);
    });
  test('what is no variable stays, and what is put in is not read again', () => {
    const env = { A: '${B}', B: 'x' };
    for (const [from, to] of [
      ['$A', '$A'],
      ['${1A}', '${1A}'],
      ['${A', '${A'],
      ['${A-x}', '${A-x}'],
      ['${A}', '${B}'],
      ['${A:-}${C:-a:b}', '${B}a:b'],
      ['  # ${A}\nx: ${B}', '  # ${A}\nx: x'],
    ] as const)
      assert.equal(substituteEnv(from, env), to);
  });
});

describe('the environment', () => {
  test('what Kubernetes sets for a Service of our name is ignored', () => {
    const env = {
      OUTRIDER_GATEWAY_SERVICE_HOST: '10.0.0.1',
      OUTRIDER_GATEWAY_SERVICE_PORT: '8788',
      OUTRIDER_GATEWAY_SERVICE_PORT_HTTP: '8788',
      OUTRIDER_GATEWAY_PORT: 'tcp://10.0.0.1:8788',
      OUTRIDER_GATEWAY_PORT_8788_TCP: 'tcp://10.0.0.1:8788',
      OUTRIDER_GATEWAY_PORT_8788_TCP_ADDR: '10.0.0.1',
    };
    assert.deepEqual(
      problems(() => load({ env })),
      [],
    );
  });
  test('control: anything else under our prefix must be known; others are not ours', () => {
    for (const name of ['OUTRIDER_GATEWAY_SERVICE', 'OUTRIDER_GATEWAY_PORTS', 'OUTRIDER_GATEWAY_X'])
      assert.equal(problems(() => load({ env: { [name]: '1' } })).length, 1, name);
    assert.deepEqual(
      problems(() => load({ env: { OUTRIDER_RUNNER_X: '1', PATH: '/' } })),
      [],
    );
  });
});

test('an option without its value, and a word that is no option, are refused', () => {
  assert.match(problems(() => load({ argv: ['--listen'] })).join(), /--listen needs a value/);
  assert.match(problems(() => load({ argv: ['listen'] })).join(), /unknown option listen/);
  assert.match(problems(() => load({ argv: ['--listen='] })).join(), /"" is not an address/);
});

test('the default of a list is written as one would write it: an address is no JSON', () => {
  const { show, default: fallback } = list('d', address(''), [
    { kind: 'unix', path: '/a' },
    { kind: 'tcp', host: '127.0.0.1', port: 1 },
  ]);
  assert.equal(show?.(fallback ?? []), 'unix:/a,127.0.0.1:1');
  assert.equal(list('d', text(''), ['a']).show, undefined, 'control');
});

describe('kinds', () => {
  // oxlint-disable-next-line typescript/no-explicit-any -- fields of every kind in one table
  const good: readonly (readonly [string, Field<any>, unknown, unknown])[] = [
    ['text', text('d'), 'x', 'x'],
    ['optional text', optionalText('d'), '', undefined],
    ['optional text', optionalText('d'), 'x', 'x'],
    ['choice', choice('d', ['a', 'b']), 'b', 'b'],
    ['bool', bool('d'), 'false', false],
    ['bool', bool('d'), true, true],
    ['integer', integer('d', -5, 5), '-5', -5],
    ['integer', integer('d', -5, 5), 5, 5],
    ['duration', duration('d'), '250ms', 250],
    ['duration', duration('d'), '2h', 7_200_000],
    ['bytes', bytes('d'), '64KiB', 65_536],
    ['least duration', duration('d', 1_000, 100), '100ms', 100],
    ['least bytes', bytes('d', 2_048, 1_024), '1KiB', 1_024],
    ['bytes', bytes('d'), 7, 7],
    ['address', address('d'), 'unix:/a', { kind: 'unix', path: '/a' }],
    ['optional address', optionalAddress('d'), '', undefined],
    ['list', list('d', integer('i', 0, 9)), '1, 2', [1, 2]],
    ['list', list('d', integer('i', 0, 9)), '[1, 2]', [1, 2]],
    ['list', list('d', integer('i', 0, 9)), [1, '2'], [1, 2]],
    ['list', list('d', integer('i', 0, 9)), '', []],
    [
      'record',
      record('d', { a: text('a'), b: integer('b', 0, 9, 4) }),
      { a: 'x' },
      { a: 'x', b: 4 },
    ],
    ['record', record('d', { a: text('a') }), '{a: x}', { a: 'x' }],
  ];
  for (const [name, field, raw, value] of good)
    test(`${name}: ${JSON.stringify(raw)} is read`, () => {
      assert.deepEqual(field.parse(raw), value);
    });

  // oxlint-disable-next-line typescript/no-explicit-any -- fields of every kind in one table
  const bad: readonly (readonly [string, Field<any>, unknown])[] = [
    ['text', text('d'), ''],
    ['text', text('d'), 5],
    ['text', text('d'), null],
    ['optional text', optionalText('d'), 5],
    ['choice', choice('d', ['a', 'b']), 'A'],
    ['bool', bool('d'), 'yes'],
    ['bool', bool('d'), 1],
    ['integer', integer('d', 0, 5), '6'],
    ['integer', integer('d', 0, 5), '1.5'],
    ['integer', integer('d', 0, 5), ''],
    ['integer', integer('d', 0, 5), '0x1'],
    ['integer', integer('d', 0, 5), true],
    ['duration', duration('d'), '5'],
    ['duration', duration('d'), 5],
    ['duration', duration('d'), '-5s'],
    ['duration', duration('d'), '1d'],
    ['duration', duration('d'), '597h'],
    ['bytes', bytes('d'), '64KB'],
    ['least duration', duration('d', 1_000, 100), '99ms'],
    ['least bytes', bytes('d', 2_048, 1_024), 1_023],
    ['bytes', bytes('d'), -1],
    ['bytes', bytes('d'), 1.5],
    ['bytes', bytes('d'), '99999999TiB'],
    ['address', address('d'), '127.0.0.1'],
    ['address', address('d'), 8788],
    ['list', list('d', integer('i', 0, 9)), '1,x'],
    ['list', list('d', integer('i', 0, 9)), { a: 1 }],
    ['list', list('d', integer('i', 0, 9)), null],
    ['list', list('d', integer('i', 0, 9)), '[1'],
    ['record', record('d', { a: text('a') }), {}],
    ['record', record('d', { a: text('a') }), { a: 'x', b: 1 }],
    ['record', record('d', { a: text('a') }), { a: 'x', constructor: 1 }],
    ['record', record('d', { a: text('a') }), ['x']],
    ['record', record('d', { a: text('a') }), '{a: [}'],
  ];
  for (const [name, field, raw] of bad)
    test(`${name}: ${JSON.stringify(raw)} is refused`, () => {
      assert.throws(() => {
        field.parse(raw);
      }, Error);
    });

  test('a list says which item is wrong, a record which key, with what was meant', () => {
    assert.throws(
      () => list('d', integer('i', 0, 9)).parse('1,2,x'),
      /item 3: must be a whole number/,
    );
    const routes = record('d', { upstream: text('u') });
    assert.throws(
      () => routes.parse({ upstrem: 'x' }),
      /unknown key "upstrem" \(did you mean "upstream"/,
    );
    assert.throws(() => routes.parse({}), /needs the key "upstream"/);
  });

  test('a list of mappings says all that is wrong, each with its item and its key', () => {
    const route = record('d', {
      upstream: text('u'),
      wait: duration('w', 1),
      ports: list('p', integer('i', 1, 9), []),
    });
    const raw = [
      { upstream: 'a', wait: '5', ports: [1, 2] },
      { upstream: 'b', ports: [3] },
      { upstrem: '', wait: '5s', ports: [0, 1, 10] },
      'c',
    ];
    const loadRoutes = (routes: unknown) =>
      loadConfig(
        'gateway',
        { routes: list('d', route) },
        { argv: [], env: {}, file: file(JSON.stringify({ gateway: { routes } })) },
      );
    assert.deepEqual(
      problems(() => loadRoutes(raw)),
      [
        'item 1: wait must be a duration such as 250ms, 30s, 5m or 2h, not "5"',
        'item 3: has the unknown key "upstrem" (did you mean "upstream"?)',
        'item 3: needs the key "upstream" (text)',
        'item 3: ports item 1: must be a whole number 1..9, not 0',
        'item 3: ports item 3: must be a whole number 1..9, not 10',
        'item 4: must be a mapping',
      ].map((problem) => `gateway.routes (from mesh.yaml): ${problem}`),
    );
    assert.deepEqual(
      loadRoutes(raw.slice(1, 2)),
      {
        routes: [{ upstream: 'b', wait: 1, ports: [3] }],
      },
      'control',
    );
  });
});

describe('a file that is read again', () => {
  const given = 'gateway: {insecure: true}\nrunner: {}\n';
  const cases = [
    [given, '', false, 'emptied'],
    [given, '# all of it\n', false, 'emptied but for a comment'],
    [given, 'gateway:', false, 'cut off'],
    [given, 'runner: {}', false, 'without its section'],
    [given, 'gateway: {}', true, 'with every default, as somebody wrote'],
    [given, 'gateway: {insecure: false}', true, 'with another value'],
    ['runner: {}', '', true, 'it had no section before'],
    ['', given, true, 'it has one now'],
  ] as const;
  for (const [before, now, isTaken, why] of cases)
    test(`is ${isTaken ? 'taken' : 'refused'}: ${why}`, () => {
      const found = problems(() => assertSectionKept('gateway', file(before), file(now)));
      assert.equal(found.length === 0, isTaken);
      if (!isTaken) assert.match(found[0] ?? '', /^mesh\.yaml: .*gateway: \{\}$/);
    });
});

test('a duration is written in its largest whole unit, and read back the same', () => {
  for (const [ms, shown] of [
    [0, '0ms'],
    [250, '250ms'],
    [1_500, '1500ms'],
    [30_000, '30s'],
    [90_000, '90s'],
    [120_000, '2m'],
    [7_200_000, '2h'],
  ] as const) {
    assert.equal(formatDuration(ms), shown);
    assert.equal(parseDurationMs(shown), ms);
  }
});

test('a size is exact in every unit', () => {
  for (const [raw, value] of [
    ['7', 7],
    ['7B', 7],
    ['1KiB', 1_024],
    ['3MiB', 3_145_728],
    ['2GiB', 2_147_483_648],
    ['1TiB', 1_099_511_627_776],
  ] as const)
    assert.equal(parseBytes(raw), value);
});
