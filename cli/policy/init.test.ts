import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { outriderArgv } from '#core/testing/outrider-argv';
import { loadDirectory } from '#policystore';
import { run } from './testing.ts';

test('a role alone may run programs and reaches nothing', async (t) => {
  const { out, init } = rig(t);
  const { code, out: said } = await init('analyst');
  assert.equal(code, 0);
  assert.match(
    said,
    /role-analyst\.yaml\n.*test-analyst\.yaml\nchecked and tested, digest [0-9a-f]{64}\n/,
  );
  const { documents } = await loadDirectory(out);
  assert.deepEqual(
    documents.roles.map(({ metadata }) => metadata.name),
    ['analyst'],
  );
  assert.equal(documents.egressPolicies.length, 0);
});

test('what is asked for is written, each file with the schema beside it, and says what to change', async (t) => {
  const { out, init, read } = rig(t);
  const { code, out: said } = await init('analyst', '--with', 'github-read,model-api');
  assert.equal(code, 0);
  assert.match(said, /to change: example-owner \(.*--set github-read\.owner=/);
  assert.match(said, /to change: example-team/);
  assert.doesNotMatch(said, /GITHUB_TOKEN/, 'it has a usual value');
  for (const name of readdirSync(out).filter((one) => one.endsWith('.yaml')))
    assert.match(read(name), /^# yaml-language-server: \$schema=\.\/policy\.schema\.json\n/);
  assert.deepEqual(
    JSON.parse(read('policy.schema.json')),
    JSON.parse(readFileSync(join(packageRoot, 'policy.schema.json'), 'utf8')),
  );
});

test('values take the place of examples, in the policy, its credential and its tests', async (t) => {
  const { out, init, read } = rig(t);
  const { code, out: said } = await init(
    'analyst',
    '--with',
    'github-read',
    '--with',
    'clickhouse-read',
    '--owner',
    'team-data',
    '--json',
    '--set',
    'github-read.owner=acme',
    '--set',
    'github-read.secret=file:gh',
    '--set',
    'clickhouse-read.database=shop',
  );
  assert.equal(code, 0);
  const { ok, left } = JSON.parse(said);
  assert.equal(ok, true);
  assert.deepEqual(
    left.map(({ set }: { set: string }) => set),
    ['clickhouse-read.endpoint'],
  );
  const { documents } = await loadDirectory(out);
  const [binding] = documents.credentialBindings;
  assert.equal(binding?.spec.secretRef, 'file:gh');
  assert.deepEqual(binding?.spec.paths, ['/repos/acme/**', '/rate_limit']);
  assert.match(read('test-analyst-clickhouse-read.yaml'), /FROM shop\.events/);
  const all = readdirSync(out)
    .filter((name) => name.endsWith('.yaml'))
    .map(read)
    .join('');
  assert.doesNotMatch(all, /example-(role|owner|team)/);
});

describe('where packages come from is read from this machine', () => {
  const cases: readonly (readonly [string, string, Record<string, string>, string, string])[] = [
    [
      'npm: a mirror over https',
      'npm',
      { npm_config_registry: 'https://npm.corp.test/repository/npm/' },
      'CONNECT npm.corp.test:443',
      'egress-analyst-npm.yaml',
    ],
    [
      'npm: the registry of a scope, too',
      'npm',
      {
        npm_config_registry: 'https://npm.corp.test/',
        'npm_config_@acme:registry': 'https://scoped.corp.test:8443/',
      },
      'CONNECT scoped.corp.test:8443',
      'egress-analyst-npm-2.yaml',
    ],
    [
      'pip: a mirror over http at a port of its own',
      'pip',
      { PIP_INDEX_URL: 'http://pip.corp.test:8444/simple' },
      'GET http://pip.corp.test:8444/simple/requests/',
      'egress-analyst-pip.yaml',
    ],
    [
      'pip: a further index',
      'pip',
      {
        PIP_INDEX_URL: 'https://pip.corp.test/simple',
        PIP_EXTRA_INDEX_URL: 'https://more.corp.test/simple',
      },
      'CONNECT more.corp.test:443',
      'egress-analyst-pip-2.yaml',
    ],
    [
      'apt: an archive and its path',
      'debian',
      { APT_CONFIG: 'apt.conf' },
      'GET http://deb.corp.test:80/mirror/debian/pool/main/h/hello/hello_2.10-3_amd64.deb',
      'egress-analyst-debian.yaml',
    ],
  ];
  for (const [what, entry, env, request, file] of cases)
    test(what, async (t) => {
      const { root, out, read } = rig(t);
      writeFileSync(
        join(root, 'sources.list'),
        'deb http://deb.corp.test/mirror/debian stable main\n',
      );
      writeFileSync(
        join(root, 'apt.conf'),
        `Dir::Etc::sourcelist "${root}/sources.list"; Dir::Etc::sourceparts "-";`,
      );
      const { status, stderr } = outrider(
        root,
        env,
        'init',
        'analyst',
        '--with',
        entry,
        '--out',
        out,
      );
      assert.equal(status, 0, stderr);
      assert.doesNotMatch(read(file), /example\.com/);
      const phase = entry === 'debian' ? 'run' : 'install';
      const as = ['--role', 'analyst', '--phase', phase, '--request', request];
      const { status: allowed, stdout } = outrider(root, {}, 'explain', out, ...as);
      assert.equal(allowed, 0, stdout);
      const { stdout: score } = outrider(root, {}, 'test', out, '--mutate', '--min-score', '95');
      assert.match(score, /mutation score 100 %/);
    });

  test('pip without any configuration means its own index, and the host of its files', (t) => {
    const { root, out } = rig(t);
    const { status, stderr } = outrider(
      root,
      { PIP_CONFIG_FILE: '/dev/null' },
      'init',
      'analyst',
      '--with',
      'pip',
      '--out',
      out,
    );
    assert.equal(status, 0, stderr);
    assert.ok(existsSync(join(out, 'egress-analyst-pip-2.yaml')));
  });

  test('a registry at an address is said, and a name that is told is taken instead', async (t) => {
    const { root, out } = rig(t);
    const env = { npm_config_registry: 'http://127.0.0.1:4873/' };
    const args = ['init', 'analyst', '--with', 'npm', '--out', out];
    const refused = outrider(root, env, ...args);
    assert.deepEqual([refused.status, existsSync(out)], [2, false]);
    assert.match(refused.stderr, /127\.0\.0\.1 is no host name/);
    const told = outrider(root, env, ...args, '--set', 'npm.registry=https://npm.corp.test');
    assert.equal(told.status, 0, told.stderr);
  });

  test('a registry with a password in it is one that npm does not show', (t) => {
    const { root, out } = rig(t);
    const env = { npm_config_registry: 'https://user:pass@npm.corp.test/' };
    const { status, stderr } = outrider(root, env, 'init', 'a', '--with', 'npm', '--out', out);
    assert.deepEqual([status, /--set npm\.registry=URL/.test(stderr)], [2, true]);
  });

  test('a machine without the client is told what to say', (t) => {
    const { root, out } = rig(t);
    const { status, stderr } = outrider(
      root,
      { PATH: root },
      'init',
      'a',
      '--with',
      'npm',
      '--out',
      out,
    );
    assert.equal(status, 2);
    assert.match(stderr, /npm does not say .* --set npm\.registry=URL/);
  });
});

describe('what is there already', () => {
  test('is never replaced, and nothing is written beside it', async (t) => {
    const { out, init, read } = rig(t);
    await init('analyst');
    writeFileSync(join(out, 'egress-analyst-model-api.yaml'), '# mine\n');
    const { code, err } = await init('analyst', '--with', 'model-api');
    assert.deepEqual([code, /is there already/.test(err)], [2, true]);
    assert.equal(read('egress-analyst-model-api.yaml'), '# mine\n');
    assert.ok(!existsSync(join(out, 'test-analyst-model-api.yaml')));
  });

  test('is shared: a second role takes the datasource and the credential that the first has made', async (t) => {
    const { out, init } = rig(t);
    assert.equal((await init('analyst', '--with', 'github-read,clickhouse-read')).code, 0);
    const second = await init('reviewer', '--with', 'github-read,clickhouse-read');
    assert.equal(second.code, 0, second.err);
    const { documents } = await loadDirectory(out);
    assert.deepEqual(
      [documents.roles, documents.datasources, documents.credentialBindings].map(
        (one) => one.length,
      ),
      [2, 1, 1],
    );
    const more = await init('analyst', '--with', 'model-api');
    assert.equal(more.code, 2, 'the tests of the role are there');
  });

  test('must be sound together with what is new', async (t) => {
    const { out, init } = rig(t);
    await init('analyst');
    writeFileSync(
      join(out, 'boundary.yaml'),
      'apiVersion: outrider/v1\nkind: Boundary\nmetadata: {name: b}\nspec: {neverHosts: [api.github.com]}\n',
    );
    const { code, err } = await init('reviewer', '--with', 'github-read');
    assert.equal(code, 2);
    assert.match(err, /egress-reviewer-github-read\.yaml:\d+:\d+/);
    assert.ok(!existsSync(join(out, 'role-reviewer.yaml')));
  });
});

const wrong: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['no role', [], /which role/],
  ['a role that is no name', ['An Analyst'], /a role is/],
  ['an entry that is not there', ['a', '--with', 'githubread'], /did you mean "github-read"/],
  [
    'a value for nothing',
    ['a', '--set', 'npm.registry=https://x.test'],
    /no entry that is asked for/,
  ],
  [
    'a value that does not fit',
    ['a', '--with', 'github-read', '--set', 'github-read.owner=a/../b'],
    /must match/,
  ],
  [
    'a value twice',
    ['a', '--with', 'github-read', '--set', 'github-read.owner=a', '--set', 'github-read.owner=b'],
    /twice/,
  ],
  [
    'a registry with a password',
    ['a', '--with', 'npm', '--set', 'npm.registry=https://a:b@x.test'],
    /without user information/,
  ],
  ['an owner that is more than a name', ['a', '--owner', 'x}, y: {'], /--owner is/],
];
for (const [what, argv, message] of wrong)
  test(`${what} is wrong usage`, async (t) => {
    const { out, init } = rig(t);
    const { code, err } = await init(...argv);
    assert.equal(code, 2);
    assert.match(err, message);
    assert.ok(!existsSync(out));
  });

test('--list says what there is, and what can be set', async (t) => {
  const { init } = rig(t);
  assert.match(
    (await init('--list')).out,
    /^github-read +GitHub, read only\n +github-read\.owner: /m,
  );
  const entries = JSON.parse((await init('--list', '--json')).out);
  assert.equal(entries.length, 9);
});

function rig(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-init-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const out = join(root, 'policies');
  return {
    root,
    out,
    read: (name: string) => readFileSync(join(out, name), 'utf8'),
    init: (...argv: string[]) => run('init', ...argv, '--out', out),
  };
}

/** As a process of its own, in a directory and an environment of its own. */
function outrider(root: string, env: Record<string, string>, ...argv: string[]) {
  return spawnSync(process.execPath, [...outriderArgv(), 'policy', ...argv], {
    cwd: root,
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], HOME: root, ...env },
  });
}
