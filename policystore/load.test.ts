import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { OutriderError } from '#core/errors';
import { packageRoot } from '#core/package-root';
import { loadDirectory, loadFiles } from './load.ts';

const ROLE = `apiVersion: outrider/v1
kind: Role
metadata: {name: analyst}
spec: {members: [{issuer: outrider:local}], sandbox: {}}
`;
const POLICY = `apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: one}
spec:
  subjects: [{role: analyst}]
  mode: enforce
  allow:
    - {id: api, hosts: [api.example.com], methods: [GET], paths: ["/v1/**"]}
`;
const SOUND = `${ROLE}---\n${POLICY}`;

test('a sound file loads, and only its meaning is in the digest', () => {
  const loaded = load(SOUND);
  assert.equal(loaded.documents.roles.length, 1);
  assert.equal(loaded.documents.egressPolicies.length, 1);
  assert.match(loaded.digest, /^[0-9a-f]{64}$/);
  assert.equal(loaded.set.digest, loaded.digest);
  const otherwise = loadFiles([
    { name: 'b.yaml', text: ROLE },
    {
      name: 'a.yaml',
      text: `# a comment\n${POLICY.replace('{id: api, hosts: [api.example.com],', '{hosts: ["api.example.com"], id: api,')}`,
    },
  ]);
  assert.equal(otherwise.digest, loaded.digest);
  assert.notEqual(load(SOUND.replace('/v1/**', '/v2/**')).digest, loaded.digest);
});

test('nothing at all is a policy that allows nothing', () => {
  assert.equal(loadFiles([]).set.roles.size, 0);
  assert.equal(load('# only a comment\n---\n').set.roles.size, 0);
});

test('the documents of the quickstart load, and their tests pass', async () => {
  const loaded = await loadDirectory(join(packageRoot, 'examples/quickstart/policies'));
  assert.deepEqual([...loaded.set.roles.keys()], ['analyst']);
  assert.deepEqual([...loaded.set.datasources.keys()].toSorted(), [
    'http/example',
    'prometheus/metrics',
  ]);
  assert.ok((loaded.documents.tests[0]?.spec.cases.length ?? 0) > 5);
});

/** What is replaced in the sound file, by what, and what the error must begin with. */
const broken = [
  ['an unknown kind', 'kind: Role', 'kind: Rule', 'p.yaml:2:7: this must be one of Role,'],
  ['a missing kind', 'kind: Role\n', '', 'p.yaml:1:1: "kind" is missing'],
  [
    'another version',
    'outrider/v1\nkind: Role',
    'outrider/v2\nkind: Role',
    'p.yaml:1:13: this must be "outrider/v1"',
  ],
  [
    'an unknown field, with the right spelling',
    'methods:',
    'methds:',
    'p.yaml:13:43: unknown field "methds" (did you mean "methods"?)',
  ],
  ['a missing list', ', methods: [GET]', '', 'p.yaml:13:7: "methods" is missing'],
  ['an empty list', '[api.example.com]', '[]', 'p.yaml:13:17: an empty list is not accepted'],
  [
    'null in place of a list',
    '[api.example.com]',
    'null',
    'p.yaml:13:24: this must be a list, and null never means "all"',
  ],
  ['a missing allow', /\n {2}allow:[^]*$/, '\n', 'p.yaml:9:1: "allow" is missing'],
  [
    'a quoted boolean',
    'methods: [GET]',
    'allowPrivate: "true", methods: [GET]',
    'p.yaml:13:57: this must be true or false, without quotes',
  ],
  [
    'a word for a boolean',
    'methods: [GET]',
    'queryStrict: yes, methods: [GET]',
    'p.yaml:13:56: this must be true or false',
  ],
  [
    'a mode that is not one',
    'mode: enforce',
    'mode: enforced',
    'p.yaml:11:9: this must be one of enforce, report (did you mean "enforce"?)',
  ],
  [
    'a phase that is not one',
    'mode: enforce',
    'mode: enforce\n  phase: instal',
    'p.yaml:12:10: this must be one of run, install (did you mean "install"?)',
  ],
  [
    'a manager that is not one',
    'sandbox: {',
    'sandbox: {dependencies: {managers: [pipx]}, ',
    'p.yaml:4:81: this must be one of pip, npm (did you mean "pip"?)',
  ],
  [
    'a tool with a misspelt field',
    'sandbox: {',
    'tools: [{name: a, argument: {b: c}}], sandbox: {',
    'p.yaml:4:63: unknown field "argument" (did you mean "arguments"?)',
  ],
  [
    'a tool whose arguments are none',
    'sandbox: {',
    'tools: [{name: a, arguments: {}}], sandbox: {',
    'p.yaml:4:63: this must be a map of at least one argument, by its name, to what it must be',
  ],
  [
    'an argument that is a map',
    'sandbox: {',
    'tools: [{name: a, arguments: {b: {c: d}}}], sandbox: {',
    'p.yaml:4:75: this must be a text (a * at its end stands for any rest), a number, true or false, or a list',
  ],
  [
    'an empty list of managers',
    'sandbox: {',
    'sandbox: {dependencies: {managers: []}, ',
    'p.yaml:4:70: an empty list is not accepted',
  ],
  [
    'a misspelt list of packages',
    'sandbox: {',
    'sandbox: {dependencies: {managers: [npm], blocks: [x]}, ',
    'p.yaml:4:87: unknown field "blocks" (did you mean "block"?)',
  ],
  ['report mode without a day', 'mode: enforce', 'mode: report', 'p.yaml:9:1: "until" is missing'],
  [
    'a wildcard for everything',
    '[api.example.com]',
    '["*"]',
    'p.yaml:13:25: this must be a lower-case host name',
  ],
  [
    'a wildcard for a top-level domain',
    '[api.example.com]',
    '["*.com"]',
    'p.yaml:13:25: this must be a lower-case host name',
  ],
  [
    'a wildcard in the middle',
    '[api.example.com]',
    '["a.*.com"]',
    'p.yaml:13:25: this must be a lower-case host name',
  ],
  [
    'a host that is not ASCII',
    '[api.example.com]',
    '[bücher.example]',
    'p.yaml:13:25: this must be a lower-case host name',
  ],
  [
    'a capital',
    '[api.example.com]',
    '[API.example.com]',
    'p.yaml:13:25: this must be a lower-case host name',
  ],
  [
    'a bidirectional control in a host',
    'api.example.com',
    'api.\u202eexample.com',
    'p.yaml:13:29: an invisible character (U+202E)',
  ],
  [
    'a zero-width space in a comment',
    'kind: Role',
    'kind: Role # \u200b',
    'p.yaml:2:14: an invisible character (U+200B)',
  ],
  [
    'a key twice',
    'mode: enforce',
    'mode: enforce\n  mode: report',
    'p.yaml:12:3: Map keys must be unique',
  ],
  [
    'an anchor',
    '[api.example.com]',
    '&a [api.example.com]',
    'p.yaml:13:27: YAML anchors are not accepted',
  ],
  ['a tag', 'name: one', 'name: !!str one', 'p.yaml:8:24: YAML tags are not accepted'],
  [
    'a merge key',
    'mode: enforce',
    'mode: enforce\n  <<: {mode: report}',
    'p.yaml:12:3: unknown field "<<"',
  ],
  [
    'a directive',
    'apiVersion: outrider/v1\nkind: Role',
    '%YAML 1.1\n---\napiVersion: outrider/v1\nkind: Role',
    'p.yaml:2:1: YAML directives',
  ],
  [
    'a key that is not text',
    'name: analyst',
    '1: 2, name: analyst',
    'p.yaml:3:12: a key must be text',
  ],
  ['YAML that is none', '[{role: analyst}]', '[{role: analyst]', 'p.yaml:10:28: '],
  ['a list in place of a document', POLICY, '- a\n', 'p.yaml:6:1: a policy document is a map'],
  [
    'a tunnel with methods',
    'methods: [GET], paths: ["/v1/**"]',
    'protocols: [tunnel], methods: [GET]',
    'p.yaml:13:64: this field must not stand here',
  ],
  [
    'both hosts and datasource',
    'methods: [GET], paths: ["/v1/**"]',
    'datasource: loki/x',
    'p.yaml:13:7: this must be exactly one of hosts, cidrs and datasource',
  ],
  [
    'a subject without its issuer',
    '{issuer: outrider:local}',
    '{subject: ann}',
    'p.yaml:4:18: "subject" needs "issuer" beside it',
  ],
  [
    'a rule that repeats a host',
    '[api.example.com]',
    '[api.example.com, api.example.com]',
    'p.yaml:13:17: the same entry stands here twice',
  ],
  [
    'a size in a unit that we do not have',
    'methods: [GET]',
    'limits: {responseBytes: 5MB}, methods: [GET]',
    'p.yaml:13:67: this must be a number of bytes',
  ],
  [
    'a role that is not there',
    '[{role: analyst}]',
    '[{role: analist}]',
    'p.yaml:10:21: there is no Role "analist" (did you mean "analyst"?)',
  ],
  [
    'a path that is not canonical',
    '/v1/**',
    '/v1/../**',
    'p.yaml:13:67: this must be a canonical path',
  ],
  [
    'a path pattern that means nothing',
    '/v1/**',
    '/v1/a*',
    'p.yaml:13:67: "*" stands for a whole segment',
  ],
  [
    'a limit that limits nothing',
    'methods: [GET]',
    'limits: {}, methods: [GET]',
    'p.yaml:13:43: at least one of these must stand here: rate, burst,',
  ],
  [
    'a deny rule that names nothing',
    '/v1/**"]}\n',
    '/v1/**"]}\n  deny: [{id: all}]\n',
    'p.yaml:14:10: at least one of these must stand here: hosts, cidrs,',
  ],
  ['a claim that is none', '{issuer: outrider:local}', '{claim: {}}', 'p.yaml:4:19: an empty map'],
  ['an empty list of methods', '[GET]', '[]', 'p.yaml:13:43: an empty list is not accepted'],
  ['a method twice', '[GET]', '[GET, GET]', 'p.yaml:13:43: the same entry stands here twice'],
  [
    'a tunnel that is something else, too',
    'methods: [GET], paths: ["/v1/**"]',
    'protocols: [tunnel, http1]',
    'p.yaml:13:43: more entries than 1 are not accepted',
  ],
] as const;
for (const [what, from, to, expected] of broken) {
  test(`${what} is refused where it stands`, () => {
    const text = SOUND.replace(from, to);
    assert.notEqual(text, SOUND, 'the case does break something');
    const lines = messageOf(() => load(text)).split('\n');
    assert.ok(
      lines.some((line) => line.startsWith(expected)),
      `${lines.join('\n')}\nlacks\n${expected}`,
    );
  });
}

test('an alias is refused, and so is a bomb made of them, which nobody could expand', () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${Array.from({ length: 12 }, (_, i) => `${'b'.repeat(i + 1)}: &${'b'.repeat(i + 1)} [${Array.from({ length: 9 }, () => `*${i === 0 ? 'a' : 'b'.repeat(i)}`).join(',')}]`).join('\n')}\n`;
  // Two million million leaves: that this comes back says that none was made.
  assert.match(
    messageOf(() => load(bomb)),
    /YAML aliases are not accepted/,
  );
});

for (const [what, text] of [
  ['brackets', '['.repeat(100_000)],
  ['dashes', '- '.repeat(100_000)],
  ['indentation', Array.from({ length: 500 }, (_, i) => `${' '.repeat(i)}a:\n`).join('')],
] as const) {
  test(`${what} that nest without end are refused, not followed`, () => {
    assert.match(
      messageOf(() => load(text)),
      /nests deeper than 64 levels/,
    );
  });
}

const secrets = [
  [
    'a bearer header',
    'file:slot',
    'env:SLOT',
    'format: "Bearer {secret}"',
    'format: "Bearer s3cr3tvalue"',
  ],
  [
    'a JWT',
    'metadata: {name: token}',
    '',
    '',
    'metadata: {name: token, description: eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl}',
  ],
  [
    'a password in a URL',
    'metadata: {name: token}',
    '',
    '',
    'metadata: {name: token, description: "https://ann:hunter2@db.example.com/"}',
  ],
  [
    'a key in a comment',
    'metadata: {name: token}',
    '',
    '',
    '# -----BEGIN EC PRIVATE KEY-----\nmetadata: {name: token}',
  ],
  [
    'a provider token',
    'metadata: {name: token}',
    '',
    '',
    'metadata: {name: token, description: ghp_0123456789abcdefghijABCDEFGHIJ012345}',
  ],
] as const;
for (const [what, , , from, to] of secrets) {
  test(`${what} in a policy file is refused, and not repeated`, () => {
    const plain = bindingFile();
    load(plain);
    const text = plain.replace(from === '' ? 'metadata: {name: token}' : from, to);
    assert.notEqual(text, plain);
    const message = messageOf(() => load(text));
    assert.match(message, /this looks like a secret/);
    assert.doesNotMatch(message, /s3cr3t|hunter2|eyJ|ghp_|PRIVATE/);
  });
}

test('every problem of every file is said at once, in the order of file and line', () => {
  const message = messageOf(() =>
    loadFiles([
      { name: 'a.yaml', text: SOUND.replace('mode: enforce', 'mode: x').replace('[GET]', '[GIT]') },
      { name: 'b.yaml', text: 'kind: Nothing\n' },
    ]),
  );
  assert.deepEqual(
    message.split('\n').map((line) => line.split(': ')[0]),
    ['a.yaml:11:9', 'a.yaml:13:53', 'b.yaml:1:7'],
  );
});

test('a key, a kind and the name of a file end no line and move no cursor', () => {
  const key = `${SOUND}"x\\n::error::\\e[2Jp.yaml:1:1: fine": 1\n`;
  for (const [name, text] of [
    ['p.yaml', key],
    ['p\n::error::.yaml', 'kind: Nothing\n'],
  ] as const) {
    const message = messageOf(() => loadFiles([{ name, text }]));
    assert.match(message, /^p\P{Cc}*\\u\{a\}::error::\P{Cc}*$/u);
  }
});

const failing = [
  ['{verdict: deny}', 'expected deny, got allow'],
  ['{verdict: allow, rule: other}', 'expected rule other, got api'],
  ['{verdict: allow, credential: token}', 'expected credential token, got none'],
] as const;
const CASES = `---
apiVersion: outrider/v1
kind: PolicyTest
metadata: {name: t}
spec:
  as: {role: analyst}
  cases:
    - {name: first, request: "GET https://api.example.com/v1/x", expect: EXPECT}
    - {name: far, request: "GET https://api.example.com/v1/x", resolve: [203.0.113.7, 10.0.0.1], expect: {verdict: deny, reason: resolved_ip_forbidden}}
    - {name: near, request: "GET https://api.example.com/v1/x", resolve: [203.0.113.7], expect: {verdict: allow}}
    - {name: odd, request: "GET https://api.example.com/v1//x", expect: {verdict: deny, reason: path_malformed}}
`;
test('a PolicyTest that holds lets the policy load', () => {
  load(`${SOUND}${CASES.replace('EXPECT', '{verdict: allow, rule: api}')}`);
});
for (const [expectation, expected] of failing) {
  test(`a PolicyTest that expects ${expectation} fails the load`, () => {
    const message = messageOf(() => load(`${SOUND}${CASES.replace('EXPECT', expectation)}`));
    assert.equal(message, `p.yaml:21:7: case "first": ${expected}`);
  });
}

test('PolicyTests say the same whenever they run: expiry and report mode do not touch them', () => {
  const expect = '{verdict: allow, rule: api}';
  load(
    `${SOUND.replace('{name: one}', '{name: one, expires: 2001-01-01}')}${CASES.replace('EXPECT', expect)}`,
  );
  const report = SOUND.replace('mode: enforce', 'mode: report\n  until: 2999-01-01');
  const denied = CASES.replace('EXPECT', expect).replace(
    '{name: odd, request: "GET https://api.example.com/v1//x", expect: {verdict: deny, reason: path_malformed}}',
    '{name: other, request: "GET https://other.example.com/", expect: {verdict: deny, reason: host_not_allowed}}',
  );
  load(`${report}${denied}`);
});

test('files are read beneath the directory, sorted, without what is hidden', async (t) => {
  const root = directory(t);
  mkdirSync(join(root, 'sub/.git'), { recursive: true });
  writeFileSync(join(root, 'sub/role.yml'), ROLE);
  writeFileSync(join(root, 'policy.yaml'), POLICY);
  writeFileSync(join(root, 'notes.txt'), 'not yaml: [');
  writeFileSync(join(root, '.hidden.yaml'), 'not yaml: [');
  writeFileSync(join(root, 'sub/.git/x.yaml'), 'not yaml: [');
  assert.deepEqual((await loadDirectory(root)).files, ['policy.yaml', 'sub/role.yml']);
});

test('a link inside the directory is followed, as Kubernetes mounts ConfigMaps', async (t) => {
  const root = directory(t);
  mkdirSync(join(root, '..2026_11_21'));
  writeFileSync(join(root, '..2026_11_21/all.yaml'), SOUND);
  symlinkSync('..2026_11_21', join(root, '..data'));
  symlinkSync('..data/all.yaml', join(root, 'all.yaml'));
  assert.deepEqual((await loadDirectory(root)).files, ['all.yaml']);
});

test('a link out of the directory is refused, to a file and to a directory', async (t) => {
  const [root, elsewhere] = [directory(t), directory(t)];
  writeFileSync(join(elsewhere, 'all.yaml'), SOUND);
  for (const [target, name] of [
    [join(elsewhere, 'all.yaml'), 'all.yaml'],
    [elsewhere, 'sub'],
  ] as const) {
    symlinkSync(target, join(root, name));
    await assert.rejects(loadDirectory(root), {
      code: 'POLICY_INVALID',
      message: `${name}: the link leads out of the policy directory`,
    });
    rmSync(join(root, name));
  }
  await loadDirectory(root);
});

test('a directory that is not there, and a file that is no text, are refused', async (t) => {
  const root = directory(t);
  await assert.rejects(loadDirectory(join(root, 'none')), { code: 'POLICY_INVALID' });
  writeFileSync(join(root, 'x.yaml'), Buffer.from([0x61, 0xff]));
  await assert.rejects(loadDirectory(root), { message: 'x.yaml: the file is not UTF-8' });
});

test('a link that leads nowhere, or back to itself, is named', async (t) => {
  const root = directory(t);
  writeFileSync(join(root, 'sound.yaml'), SOUND);
  for (const [name, target, why] of [
    ['all.yaml', 'gone.yaml', 'there is none'],
    ['current', 'gone', 'there is none'],
    ['round.yaml', 'round.yaml', 'it leads back to itself'],
  ] as const) {
    symlinkSync(target, join(root, name));
    await assert.rejects(loadDirectory(root), {
      code: 'POLICY_INVALID',
      message: `${name}: the link cannot be followed: ${why}`,
    });
    rmSync(join(root, name));
  }
  await loadDirectory(root);
});

test('a file that this user may not read is named', async (t) => {
  const root = directory(t);
  const file = join(root, 'sound.yaml');
  writeFileSync(file, SOUND, { mode: 0 });
  chmodSync(root, 0o755);
  const asRoot = process.geteuid?.() === 0;
  if (asRoot) process.seteuid?.(65_534);
  try {
    await assert.rejects(loadDirectory(root), {
      code: 'POLICY_INVALID',
      message: 'sound.yaml: the file cannot be read: this user may not',
    });
  } finally {
    if (asRoot) process.seteuid?.(0);
  }
  chmodSync(file, 0o644);
  await loadDirectory(root);
});

function load(text: string) {
  return loadFiles([{ name: 'p.yaml', text }]);
}

function bindingFile(): string {
  return `${ROLE}---
${POLICY.replace('paths: ["/v1/**"]', 'paths: ["/v1/**"], credential: token')}---
apiVersion: outrider/v1
kind: CredentialBinding
metadata: {name: token}
spec:
  secretRef: file:slot
  hosts: [api.example.com]
  inject: {header: authorization, format: "Bearer {secret}"}
`;
}

function messageOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof OutriderError && error.code === 'POLICY_INVALID', String(error));
    return error.message;
  }
  throw new Error('nothing was refused');
}

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'outrider-policy-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
