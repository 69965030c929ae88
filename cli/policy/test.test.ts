import assert from 'node:assert/strict';
import { test } from 'node:test';
import { directoryOf, policyText, QUICKSTART, run, runJson } from './testing.ts';

const ALLOW = [
  '{id: read, hosts: [api.example.com], methods: [GET], paths: ["/v1/**"]}',
  '{id: git, hosts: [git.example.com], protocols: [tunnel]}',
];
const DENY = ['{id: no-secrets, hosts: [api.example.com], paths: ["/v1/secrets/**"]}'];
const CASES = [
  '{name: reading, request: "GET https://api.example.com/v1", expect: {verdict: allow, rule: read}}',
  '{name: no writing, request: "POST https://api.example.com/v1", expect: {verdict: deny, reason: method_not_allowed}}',
  '{name: cloning, request: "CONNECT git.example.com:443", expect: {verdict: allow, rule: git}}',
  '{name: only there, request: "CONNECT www.example.com:443", expect: {verdict: deny}}',
  '{name: no secrets, request: "GET https://api.example.com/v1/secrets/x", expect: {verdict: deny, rule: no-secrets}}',
];
const without = (name: string) => CASES.filter((one) => !one.startsWith(`{name: ${name},`));

test('the quickstart: its cases hold and cover every rule', async () => {
  const { code, out } = await run('test', QUICKSTART, '--coverage', '100');
  assert.equal(code, 0, out);
  assert.match(out, /^9 of 9 cases hold\n3 of 3 rules are covered \(100 %\)\n$/);
});

test('a case that fails is said with its place, exits 1, and the rules that it would cover are not', async (t) => {
  const cases = [
    ...without('reading'),
    '{name: reading, request: "GET https://api.example.com/v2", expect: {verdict: allow}}',
  ];
  const directory = directoryOf(t, { 'p.yaml': policyText({ allow: ALLOW, deny: DENY, cases }) });
  const { code, out } = await run('test', directory);
  assert.equal(code, 1);
  assert.match(
    out,
    /^p\.yaml:\d+:\d+: case "reading": expected allow, got deny \(path_not_allowed\)\n4 of 5 cases hold\n/,
  );
  assert.match(out, /not covered {2}analyst\/read: wants a case that it allows\n/);
  const { json } = await runJson('test', directory);
  assert.equal(json['ok'], false);
  assert.equal(Object(json['failures']).length, 1);
});

const uncovered: readonly (readonly [string, string, RegExp])[] = [
  ['without a case that it allows', 'reading', /analyst\/read: wants a case that it allows\n/],
  [
    'without a case that an opaque tunnel nearly allows',
    'only there',
    /analyst\/git: wants a case that it nearly allows\n/,
  ],
  [
    'that denies, without a case that it refuses',
    'no secrets',
    /analyst\/no-secrets: wants a case that it refuses\n/,
  ],
];
for (const [what, missing, expected] of uncovered)
  test(`a rule ${what} is not covered`, async (t) => {
    const cases = without(missing);
    const directory = directoryOf(t, { 'p.yaml': policyText({ allow: ALLOW, deny: DENY, cases }) });
    const { code, out } = await run('test', directory, '--coverage', '100');
    assert.equal(code, 1);
    assert.match(out, expected);
    assert.match(out, /2 of 3 rules are covered \(66 %\)/);
    assert.equal((await run('test', directory, '--coverage', '66')).code, 0);
  });

test('what another rule refuses counts as nearly allowed, and a stranger of a host does not', async (t) => {
  const covered = async (...cases: string[]) => {
    const directory = directoryOf(t, {
      'p.yaml': policyText({
        allow: ALLOW,
        deny: DENY,
        cases: [
          ...cases,
          ...without('no writing').filter((one) => !/secrets|only there/.test(one)),
        ],
      }),
    });
    const { json } = await runJson('test', directory);
    return Object(json['coverage']).rules[0].covered;
  };
  const deny = (request: string) => `{name: x, request: "${request}", expect: {verdict: deny}}`;
  assert.equal(await covered(deny('GET https://api.example.com/v1/secrets/x')), true);
  assert.equal(await covered(deny('GET https://api.example.com/other')), true);
  assert.equal(await covered(deny('GET https://www.example.com/v1')), true);
  assert.equal(await covered(deny('GET https://api.example.test/v1')), false);
  assert.equal(await covered(deny('POST https://api.example.com/other')), false);
});

test('a PolicyTest may demand coverage itself: then less of it does not even load', async (t) => {
  const text = (percent: number) =>
    policyText({
      allow: ALLOW,
      deny: DENY,
      cases: without('no secrets'),
      test: [`coverage: {rules: ${percent}}`],
    });
  const directory = directoryOf(t, { 'all/p.yaml': text(100), 'some/p.yaml': text(66) });
  const { code, err } = await run('check', `${directory}/all`);
  assert.equal(code, 1);
  assert.match(
    err,
    /^p\.yaml:\d+:\d+: 2 of 3 rules are covered, 100 % are wanted: analyst\/no-secrets need/,
  );
  assert.equal((await run('check', `${directory}/some`)).code, 0);
  assert.equal((await run('test', `${directory}/all`)).code, 1);
});

test('a never clause that does not hold fails the test', async (t) => {
  const text = (methods: string) =>
    policyText({
      allow: ALLOW,
      deny: DENY,
      cases: CASES,
      test: [`never: [{hosts: [api.example.com], methods: [${methods}]}]`],
    });
  const directory = directoryOf(t, { 'bad/p.yaml': text('GET'), 'good/p.yaml': text('DELETE') });
  const bad = await run('test', `${directory}/bad`);
  assert.equal(bad.code, 1);
  assert.match(
    bad.out,
    /^p\.yaml:\d+:\d+: "GET https:\/\/api\.example\.com\/v1[^"]*" is allowed by the rule "read"/,
  );
  assert.equal((await run('test', `${directory}/good`)).code, 0);
});

test('--mutate finds a mistake that no case notices, says where it would stand, and the case that it gives notices it', async (t) => {
  const directory = directoryOf(t, {
    'p.yaml': policyText({ allow: ALLOW, deny: DENY, cases: CASES }),
  });
  const first = await runJson('test', directory, '--mutate');
  assert.equal(first.code, 1);
  const { score, unnoticed, noticed } = Object(first.json['mutation']);
  assert.ok(noticed >= 10 && unnoticed.length >= 3);
  assert.equal(score, Math.floor((noticed * 1000) / (noticed + unnoticed.length)) / 10);
  for (const { where, change } of unnoticed) {
    assert.match(where, /^p\.yaml:\d+:\d+$/);
    assert.match(change, /^analyst\/(?:read|git|no-secrets): /);
  }
  // Every case that was proposed holds, and with all of them no mistake is left.
  const proposed = unnoticed.map(
    ({ example }: { example: { request: string; verdict: string } }, at: number) =>
      `{name: proposed ${at}, request: ${JSON.stringify(example.request)}, expect: {verdict: ${example.verdict}}}`,
  );
  const better = directoryOf(t, {
    'p.yaml': policyText({ allow: ALLOW, deny: DENY, cases: [...CASES, ...proposed] }),
  });
  const second = await run('test', better, '--mutate');
  assert.equal(second.code, 0, second.out);
  assert.match(second.out, /mutation score 100 %/);
});

test('--min-score is what the score is held to', async (t) => {
  const directory = directoryOf(t, {
    'p.yaml': policyText({ allow: ALLOW, deny: DENY, cases: CASES }),
  });
  const { json } = await runJson('test', directory, '--mutate');
  const { score } = Object(json['mutation']);
  const atLeast = async (percent: number) =>
    (await run('test', directory, '--mutate', '--min-score', String(percent))).code;
  assert.deepEqual(
    [await atLeast(Math.floor(score)), await atLeast(Math.ceil(score + 0.1))],
    [0, 1],
  );
});

test('where cases fail, no mistakes are tried: they would all seem to be noticed', async (t) => {
  const cases = [
    '{name: wrong, request: "GET https://api.example.com/v1", expect: {verdict: deny}}',
  ];
  const directory = directoryOf(t, { 'p.yaml': policyText({ allow: ALLOW, cases }) });
  const { code, out } = await run('test', directory, '--mutate', '--min-score', '0');
  assert.equal(code, 1);
  assert.match(out, /no changes were tried/);
});

test('documents that are not sound are exit 1, with their places', async (t) => {
  const directory = directoryOf(t, { 'p.yaml': 'apiVersion: outrider/v1\nkind: Rolle\n' });
  const { code, err } = await run('test', directory);
  assert.equal(code, 1);
  assert.match(err, /^p\.yaml:2:7: /);
});
