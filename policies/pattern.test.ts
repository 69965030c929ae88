import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpuMsOf } from '#core/testing/cpu';
import { type HostPattern, hostCovers, matchesHost, parseHostPattern } from './host-pattern.ts';
import { parsePath } from './path.ts';
import { matchesPath, type PathPattern, parsePathPattern } from './path-pattern.ts';
import { matchesQueryValue, parseQueryPattern } from './query-pattern.ts';
import { commonPattern } from './space/path-trie.ts';

const hosts = [
  ['api.example.com', 'api.example.com', true, 'itself'],
  ['api.example.com', 'x.api.example.com', false, 'not what is beneath it'],
  ['*.example.com', 'a.example.com', true, 'one label'],
  ['*.example.com', 'a.b.example.com', true, 'several labels'],
  ['*.example.com', 'example.com', false, 'a wildcard stands for at least one label'],
  ['*.example.com', 'evilexample.com', false, 'a wildcard ends at a label, not at a letter'],
  ['*.example.com', 'a.example.com.evil.test', false, 'a suffix is at the end'],
] as const;
for (const [pattern, name, expected, why] of hosts) {
  test(`${pattern} ${expected ? 'matches' : 'does not match'} ${name}: ${why}`, () => {
    assert.equal(matchesHost(host(pattern), name), expected);
  });
}

const badHosts = [
  '*',
  '*.com',
  'com',
  'a.*.example.com',
  'a*.example.com',
  '*.*.example.com',
  'API.example.com',
  'example.com.',
  'bücher.example',
  '10.0.0.1',
  '1.2.3',
  'localhost',
  '*.localhost',
  'a.localhost',
  'metadata.google.internal',
  'prometheus-x.outrider.internal',
  '*.outrider.internal',
  'a..example.com',
  'a.example.com:443',
  'https://a.example.com',
  'a.example.com/x',
  'a\u202eb.example.com',
  '',
];
for (const text of badHosts) {
  test(`${JSON.stringify(text)} is no host pattern`, () =>
    assert.equal(typeof parseHostPattern(text), 'string'));
}

const paths = [
  ['/v1/ok', '/v1/ok', true],
  ['/v1/ok', '/v1/ok/', false],
  ['/v1/ok', '/v1/OK', false],
  ['/v1/*', '/v1/a', true],
  ['/v1/*', '/v1/', false],
  ['/v1/*', '/v1', false],
  ['/v1/*', '/v1/a/b', false],
  ['/v1/*/', '/v1/a/', true],
  ['/v1/*/x', '/v1/a/x', true],
  ['/v1/*/x', '/v1/x', false],
  ['/**', '/', true],
  ['/**', '/a/b/c/', true],
  ['/a/**', '/a', true],
  ['/a/**', '/a/', true],
  ['/a/**', '/a/b/c', true],
  ['/a/**', '/ab', false],
  ['/a/**', '/', false],
  ['/a/*/**', '/a/b', true],
  ['/a/*/**', '/a', false],
  ['/', '/', true],
  ['/', '/a', false],
  ['/a=b', '/a%3Db', true],
  ['/a%3Db', '/a=b', true],
  ['/a%3Db', '/a%3Db', true],
  ['/@user:1/**', '/%40user%3A1/x', true],
  ["/!$&'()+,=:@", '/%21%24%26%27%28%29%2B%2C%3D%3A%40', true],
  ['/a%20b', '/a%20b', true],
  ['/a%20b', '/a+b', false],
  ['/%2A', '/*', true],
  ['/%2A', '/a', false],
  ['/%2A%2A', '/a', false],
  ['/*', '/%2A', true],
] as const;
for (const [pattern, text, expected] of paths) {
  test(`${pattern} ${expected ? 'matches' : 'does not match'} ${text}`, () => {
    const parsed = parsePath(text);
    assert.ok(typeof parsed !== 'string');
    assert.equal(parsed.text, text, 'what goes on the wire is what came');
    assert.equal(matchesPath(path(pattern), parsed.segments), expected);
  });
}

const badPaths = [
  'v1',
  '',
  '/v1/**/x',
  '/v1/a*',
  '/v1/*a',
  '/v1/***',
  '/v1//x',
  '/v1/..',
  '/v1/./x',
  '/v1/%2F',
  '/v1;x',
  '/v1?x',
  '/v1#x',
  '/v1 x',
  '/v1/é',
];
for (const text of badPaths) {
  test(`${JSON.stringify(text)} is no path pattern`, () =>
    assert.equal(typeof parsePathPattern(text), 'string'));
}

test('what two path patterns have in common is what both match, for every pair of small ones', () => {
  const parts = ['a', 'b', '*', ''];
  const texts = ['/**', '/', ...parts.filter(Boolean).map((x) => `/${x}`)];
  for (const x of parts.filter(Boolean)) for (const y of [...parts, '**']) texts.push(`/${x}/${y}`);
  for (const x of ['a', '*'])
    for (const y of ['a', '*']) for (const z of ['b', '*', '', '**']) texts.push(`/${x}/${y}/${z}`);
  const universe = ['/', '/a', '/b', '/any'];
  for (const x of ['a', 'b', 'any'])
    for (const y of ['', 'a', 'b', 'any']) universe.push(`/${x}/${y}`);
  for (const x of ['a', 'b', 'any'])
    for (const y of ['a', 'b', 'any'])
      for (const z of ['', 'a', 'b', 'any']) universe.push(`/${x}/${y}/${z}`);
  for (const x of universe.slice())
    if (!x.endsWith('/') && x.split('/').length === 4) universe.push(`${x}/any`);
  const matches = (pattern: PathPattern) =>
    new Set(universe.filter((text) => matchesPath(pattern, text.slice(1).split('/'))));
  const patterns = texts.map(path);
  for (const a of patterns) {
    for (const b of patterns) {
      const [left, right] = [matches(a), matches(b)];
      const both = [...left].filter((text) => right.has(text));
      const shared = commonPattern(a, b);
      assert.deepEqual(shared ? [...matches(shared)] : [], both, `${a.text} and ${b.text}`);
      assert.equal(shared === undefined, both.length === 0, `${a.text} meets ${b.text}`);
      if (shared) assert.deepEqual(parsePathPattern(shared.text), shared);
    }
  }
});

test('covering hosts agrees with matching, for every pair of small patterns', () => {
  const names = [
    'a.example.com',
    'b.example.com',
    'any.example.com',
    'x.a.example.com',
    'any.a.example.com',
    'example.com',
    'any.x.a.example.com',
  ];
  const patterns = [
    'a.example.com',
    '*.example.com',
    '*.a.example.com',
    'x.a.example.com',
    'example.com',
    '*.x.a.example.com',
  ].map(host);
  for (const a of patterns) {
    for (const b of patterns) {
      const left = new Set(names.filter((name) => matchesHost(a, name)));
      const right = new Set(names.filter((name) => matchesHost(b, name)));
      assert.equal(hostCovers(a, b), isSubset(right, left), `${a.text} covers ${b.text}`);
    }
  }
});

const queries = [
  ['[0-9]{1,3}', '7', true],
  ['[0-9]{1,3}', '1234', false],
  ['[0-9]{1,3}', '', false],
  ['[0-9]{1,3}', '12x', false],
  ['read', 'read', true],
  ['read', 'read ', false],
  ['read|write', 'write', true],
  ['read|write', 'readwrite', false],
  ['v[0-9]+\\.[0-9]+', 'v1.20', true],
  ['v[0-9]+\\.[0-9]+', 'v1x20', false],
  ['a*b?', '', true],
  ['a*b?', 'aaab', true],
  ['a*a', 'aaa', true],
  ['a{2,}', 'a', false],
  ['a{2,}', 'aaaa', true],
  [',{2}', ',,', true],
  [',{2}', ',,,', false],
  ['[a\\-z]', '-', true],
  ['[a\\-z]', 'm', false],
  ['a*', 'a'.repeat(1024), true],
  ['a*', 'a'.repeat(1025), false],
] as const;
for (const [pattern, value, expected] of queries) {
  test(`the query pattern ${pattern} ${expected ? 'matches' : 'does not match'} ${value.slice(0, 10)} (${value.length})`, () => {
    const parsed = parseQueryPattern(pattern);
    assert.ok(typeof parsed !== 'string', pattern);
    assert.equal(matchesQueryValue(parsed, value), expected);
  });
}
for (const text of [
  '(a+)+',
  '.*',
  'a.b',
  '^a$',
  '[^a]',
  '\\d',
  'a{3,2}',
  '[z-a]',
  '[]',
  'a**',
  '*',
  'a b',
  '(?=a)',
  'é',
]) {
  test(`${text} is no query pattern`, () => assert.equal(typeof parseQueryPattern(text), 'string'));
}

test('a query pattern means what the same regular expression means, anchored', () => {
  const atoms = ['a', 'b', '[ab]', '[a-c]', '\\.', 'c'];
  const repeats = ['', '', '?', '*', '+', '{2}', '{1,3}', '{2,}'];
  const random = generator(7);
  for (let round = 0; round < 3000; round++) {
    const alternative = () =>
      Array.from({ length: random(4) }, () => `${atoms[random(6)]}${repeats[random(8)]}`).join('');
    const text = Array.from({ length: 1 + random(2) }, alternative).join('|');
    const parsed = parseQueryPattern(text);
    assert.ok(typeof parsed !== 'string', text);
    const reference = new RegExp(`^(?:${text})$`);
    for (let i = 0; i < 8; i++) {
      const value = Array.from({ length: random(7) }, () => 'abc.'[random(4)]).join('');
      assert.equal(
        matchesQueryValue(parsed, value),
        reference.test(value),
        `${text} on "${value}"`,
      );
    }
  }
});

test('a pattern that would blow up as a regular expression takes no time', async () => {
  const parsed = parseQueryPattern('a*'.repeat(60) + 'b');
  assert.ok(typeof parsed !== 'string');
  const took = await cpuMsOf(() =>
    assert.equal(matchesQueryValue(parsed, 'a'.repeat(1024)), false),
  );
  assert.ok(took < 1_000, `${took} ms of the processor`);
});

function isSubset<T>(inner: ReadonlySet<T>, outer: ReadonlySet<T>): boolean {
  return [...inner].every((item) => outer.has(item));
}

function host(text: string): HostPattern {
  const pattern = parseHostPattern(text);
  assert.ok(typeof pattern !== 'string', text);
  return pattern;
}

function path(text: string): PathPattern {
  const pattern = parsePathPattern(text);
  assert.ok(typeof pattern !== 'string', text);
  return pattern;
}

/** Numbers below a bound, the same in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) % below;
  };
}
