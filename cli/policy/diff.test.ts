import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { directoryOf, policyText, QUICKSTART, run, runJson, writeFiles } from './testing.ts';

const rule = (id: string, methods: string) =>
  `{id: ${id}, hosts: ["${id}.example.com"], methods: [${methods}], paths: ["/v1/**"], limits: {rate: 60/min}}`;
const OLD = policyText({ allow: [rule('a', 'GET, PUT'), rule('b', 'GET')] });
/** POST to a is new, PUT is gone, and b is only written in another order and place. */
const NEW = policyText({
  allow: [
    '{paths: ["/v1/**"], hosts: [b.example.com], methods: [GET], id: c, limits: {rate: 1/s}}',
    rule('a', 'GET, POST'),
  ],
});

const ADDED = '+ newly allowed  role analyst  POST https://a.example.com/v1  analyst/a';
const REMOVED = '- newly denied   role analyst  PUT https://a.example.com/v1  analyst/a';
const SUMMARY = '1 change widens what is possible, 1 change narrows it';

test('diff says by meaning what becomes possible and what no longer is, each with an example, widening first', async (t) => {
  const directory = directoryOf(t, { 'old/p.yaml': OLD, 'new/p.yaml': NEW });
  const { code, out } = await run('diff', join(directory, 'old'), join(directory, 'new'));
  assert.equal(code, 0);
  assert.equal(out, `${[ADDED, REMOVED, SUMMARY].join('\n')}\n`);
});

const exits: readonly (readonly [string, string, string, number])[] = [
  ['what widens', OLD, policyText({ allow: [rule('a', 'GET, PUT, POST'), rule('b', 'GET')] }), 1],
  ['what narrows', OLD, policyText({ allow: [rule('a', 'GET, PUT')] }), 0],
  ['another order', OLD, policyText({ allow: [rule('b', 'GET'), rule('a', 'PUT, GET')] }), 0],
];
for (const [what, before, after, expected] of exits)
  test(`--fail-on-widening exits ${expected} for ${what}, and without it every diff is 0`, async (t) => {
    const directory = directoryOf(t, { 'old/p.yaml': before, 'new/p.yaml': after });
    const sides = [join(directory, 'old'), join(directory, 'new')];
    assert.equal((await run('diff', ...sides, '--fail-on-widening')).code, expected);
    assert.equal((await run('diff', ...sides)).code, 0);
  });

test('as JSON there are the changes themselves and both digests', async (t) => {
  const directory = directoryOf(t, { 'old/p.yaml': OLD, 'new/p.yaml': NEW });
  const { json } = await runJson('diff', join(directory, 'old'), join(directory, 'new'));
  assert.deepEqual([json['widening'], json['narrowing']], [1, 1]);
  const [added, removed] = Object(json['changes']);
  assert.deepEqual(
    [added.change, added.example, added.rule],
    ['allowed', 'POST https://a.example.com/v1', 'a'],
  );
  assert.deepEqual([removed.change, removed.widening], ['denied', false]);
  assert.match(Object(json['after']).digest, /^[0-9a-f]{64}$/);
});

test('as Markdown it is a table in which no text of a policy can do anything', async (t) => {
  const tenant = (name: string) =>
    `kind: EgressPolicy\nmetadata: {name: t}\nspec: {subjects: [{role: analyst, tenant: ${JSON.stringify(name)}}], mode: enforce, allow: [{id: t, hosts: [t.example.com], methods: [GET], paths: any}]}`;
  const nasty = 'a|b`c<img src=x>[d](e)';
  const directory = directoryOf(t, {
    'old/p.yaml': OLD,
    'new/p.yaml': policyText({
      allow: [rule('a', 'GET, PUT'), rule('b', 'GET')],
      more: [tenant(nasty)],
    }),
  });
  const { out } = await run('diff', join(directory, 'old'), join(directory, 'new'), '--markdown');
  const [head, , , , row = '', ...more] = out.split('\n');
  assert.equal(head, '**Policy:** 1 change widens what is possible, 0 changes narrow it');
  assert.deepEqual(more, ['']);
  assert.ok(row.includes(String.raw`role analyst of a\|b\`c\<img src=x\>\[d\](e)`), row);
  assert.equal(row.replaceAll(String.raw`\|`, '').split('|').length, 8);
  const none = await run('diff', QUICKSTART, QUICKSTART, '--markdown');
  assert.equal(none.out, '**Policy:** nothing changes for anybody.\n');
});

test('sides may be Git revisions; one without the directory permits nothing, and the work tree is left alone', async (t) => {
  const directory = directoryOf(t, { 'policies/p.yaml': OLD });
  const git = (...args: string[]) =>
    execFileSync('git', args, {
      cwd: directory,
      env: { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' },
    });
  git('init', '--quiet');
  for (const [name, value] of [
    ['user.name', 'test'],
    ['user.email', 'test@example.com'],
  ] as const)
    git('config', name, value);
  git('add', '--all');
  git('commit', '--quiet', '--message', 'old');
  writeFiles(directory, { 'policies/p.yaml': NEW });
  const here = process.cwd();
  process.chdir(directory);
  t.after(() => process.chdir(here));
  const expected = `${[ADDED, REMOVED, SUMMARY].join('\n')}\n`;
  assert.equal((await run('diff', 'HEAD:policies', 'policies')).out, expected);
  assert.equal((await run('diff', '--git', 'HEAD', 'policies')).out, expected);
  assert.equal((await run('diff', 'HEAD:policies', 'HEAD:policies', '--fail-on-widening')).code, 0);
  const fromNothing = await run('diff', 'HEAD:none', 'HEAD:policies', '--fail-on-widening');
  assert.equal(fromNothing.code, 1);
  assert.match(
    fromNothing.out,
    /^\+ newly allowed {2}role analyst {2}GET https:\/\/a\.example\.com\/v1/m,
  );
  const unknown = await run('diff', 'nope:policies', 'policies');
  assert.deepEqual([unknown.code, unknown.out], [2, '']);
  assert.match(unknown.err, /there is no commit "nope"/);
  assert.equal(git('status', '--porcelain').toString(), ' M policies/p.yaml\n');
});

test('a side that is not sound is exit 2, and is named before each of its lines', async (t) => {
  const directory = directoryOf(t, { 'old/p.yaml': OLD, 'new/p.yaml': 'kind: Rolle\n' });
  const { code, err } = await run(
    'diff',
    join(directory, 'old'),
    join(directory, 'new'),
    '--fail-on-widening',
  );
  assert.equal(code, 2);
  assert.match(err, /\/new: p\.yaml:1:7: /);
});
