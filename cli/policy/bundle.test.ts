import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { openBundle, readBundleText, readTrustedKeys } from '#policystore';
import { run } from './testing.ts';

const role = (name: string) => `apiVersion: outrider/v1
kind: Role
metadata: {name: ${name}}
spec: {members: [{issuer: outrider:local}], sandbox: {}}
`;

describe('bundle', () => {
  test('signs what the branch has, under a serial that grows with its history', async (t) => {
    const repository = await startRepository(t);
    const { git, write, bundle, opened, head } = repository;
    const first = await bundle();
    assert.equal(first.code, 0, first.err);
    assert.match(first.out, /serial 1000, commit [0-9a-f]{40}, 1 documents\ndigest [0-9a-f]{64}\n/);
    const one = await opened();
    assert.deepEqual([one.serial, one.commit, one.documents.length], [1_000, head(), 1]);
    assert.ok(Date.now() - Date.parse(one.madeAt) < 60_000);
    write('b.yaml', role('two'));
    git('add', '.');
    git('commit', '-m', 'two');
    const json = JSON.parse((await bundle('--json')).out);
    assert.deepEqual([json.ok, json.serial, json.documents], [true, 2_000, 2]);
    assert.equal(json.digest, (await opened()).digest);
    git('checkout', '-q', 'HEAD~1');
    await bundle();
    assert.equal((await opened()).serial, 1_000, 'an old commit gets its old serial');
    await bundle('--serial', '31');
    assert.equal((await opened()).serial, 31);
  });

  type Repository = Awaited<ReturnType<typeof startRepository>>;
  const refusals: readonly (readonly [string, (at: Repository) => void, RegExp])[] = [
    ['a file that is changed', ({ write }) => write('a.yaml', role('uno')), /dirty.*\n.*a\.yaml/],
    ['a file that is new', ({ write }) => write('b.yaml', role('two')), /dirty/],
    [
      'a file that is staged',
      ({ write, git }) => (write('b.yaml', role('two')), git('add', '.')),
      /dirty/,
    ],
    ['a file that is removed', ({ policies }) => rmSync(join(policies, 'a.yaml')), /dirty/],
    [
      'a file that Git ignores and the mesh would read',
      ({ write, git }) => {
        write('.gitignore', 'b.yaml\n');
        git('add', '.');
        git('commit', '-m', 'ignore');
        write('b.yaml', role('two'));
      },
      /not those of commit/,
    ],
    [
      'a change that Git was told to overlook',
      ({ write, git, policies }) => {
        git('update-index', '--assume-unchanged', join(policies, 'a.yaml'));
        write('a.yaml', role('uno'));
      },
      /not those of commit/,
    ],
    [
      'a commit that is not merged',
      ({ write, git }) => {
        git('checkout', '-q', '-b', 'feature');
        write('b.yaml', role('two'));
        git('add', '.');
        git('commit', '-m', 'two');
      },
      /not merged: refs\/heads\/main does not have it/,
    ],
    [
      'a commit that only the local branch has, and not that of origin',
      ({ write, git }) => {
        git('update-ref', 'refs/remotes/origin/main', 'HEAD');
        write('b.yaml', role('two'));
        git('add', '.');
        git('commit', '-m', 'two');
      },
      /not merged: refs\/remotes\/origin\/main does not have it/,
    ],
    [
      'a branch that is not there',
      ({ git }) => git('branch', '-m', 'main', 'trunk'),
      /no branch "main"/,
    ],
    [
      'what would not load',
      ({ write, git }) => {
        write('a.yaml', role('one').replace('Role', 'Rule'));
        git('commit', '-am', 'broken');
      },
      /a\.yaml:2:7/,
    ],
  ];
  for (const [what, make, message] of refusals)
    test(`refuses ${what}`, async (t) => {
      const repository = await startRepository(t);
      make(repository);
      const { code, err } = await repository.bundle();
      assert.equal(code, 2);
      assert.match(err, message);
      assert.throws(() => statSync(repository.out), 'nothing is written');
    });

  test('refuses a directory without Git, and a shallow clone without --serial', async (t) => {
    const { root, git, key, policies } = await startRepository(t);
    const plain = join(root, 'plain');
    mkdirSync(plain);
    const out = join(root, 'out.json');
    const outside = await run('bundle', plain, '--key', key, '--out', out);
    assert.deepEqual([outside.code, /in no Git repository/.test(outside.err)], [2, true]);
    writeFileSync(join(policies, 'b.yaml'), role('two'));
    git('add', '.');
    git('commit', '-m', 'two');
    const clone = join(root, 'clone');
    git('clone', '-q', '--depth', '1', `file://${join(root, 'repository')}`, clone);
    const shallow = await run('bundle', join(clone, 'policies'), '--key', key, '--out', out);
    assert.deepEqual([shallow.code, /the clone is shallow/.test(shallow.err)], [2, true]);
    const told = await run(
      'bundle',
      join(clone, 'policies'),
      '--key',
      key,
      '--out',
      out,
      '--serial',
      '5',
    );
    assert.equal(told.code, 0, told.err);
  });

  test('refuses a link, which Git would show as what it names', async (t) => {
    const { git, policies, bundle } = await startRepository(t);
    symlinkSync('a.yaml', join(policies, 'b.yaml'));
    git('add', '.');
    git('commit', '-m', 'link');
    const { code, err } = await bundle();
    assert.deepEqual([code, /links/.test(err)], [2, true]);
  });
});

describe('a canary and the way back', () => {
  test('carries what it is tried against, and one command signs that anew', async (t) => {
    const { root, out, key, bundle, opened, commit } = await startRepository(t);
    await bundle();
    const base = await opened();
    commit('b.yaml', role('two'));
    const tried = await bundle('--canary', '0.25', '--base', out);
    assert.equal(tried.code, 0, tried.err);
    assert.match(tried.out, /canary: 0\.25 of new sandboxes; the others stay with serial 1000/);
    const canary = await opened();
    assert.deepEqual(
      [canary.serial, canary.canary?.share, canary.canary?.base.digest],
      [2_000, 0.25, base.digest],
    );

    commit('c.yaml', role('three'));
    await bundle('--canary', '0.5', '--base', out);
    assert.equal(
      (await opened()).canary?.base.serial,
      1_000,
      'a canary is never tried against another',
    );

    const back = await run('rollback', out, '--key', key, '--json');
    assert.equal(back.code, 0, back.err);
    const now = await opened();
    assert.deepEqual(
      [now.serial, now.commit, now.digest, now.canary],
      [3_001, base.commit, base.digest, null],
    );
    const again = await run('rollback', out, '--key', key);
    assert.deepEqual([again.code, /is no canary/.test(again.err)], [2, true]);

    const kept = join(root, 'kept.json');
    await run('rollback', out, '--key', key, '--to', out, '--out', kept, '--serial', '4000');
    assert.equal((await opened(kept)).serial, 4_000);
    const lower = await run('rollback', out, '--key', key, '--to', kept, '--serial', '3001');
    assert.deepEqual([lower.code, /must be more than 3001/.test(lower.err)], [2, true]);
  });

  test('goes on from no bundle that a stranger signed', async (t) => {
    const { root, out, bundle, commit } = await startRepository(t);
    await run('keygen', join(root, 'stranger'));
    await bundle();
    commit('b.yaml', role('two'));
    const key = join(root, 'stranger.key.json');
    const refused = await run('rollback', out, '--key', key, '--to', out);
    assert.deepEqual([refused.code, /not signed by a key/.test(refused.err)], [2, true]);
    const keys = join(root, 'ours.pub.json');
    const trusted = await run('rollback', out, '--key', key, '--to', out, '--keys', keys);
    assert.equal(trusted.code, 0, trusted.err);
  });

  for (const share of ['1', '0', '10%', '-0.1'])
    test(`a share of ${share} is wrong usage`, async (t) => {
      const { bundle, out } = await startRepository(t);
      const { code, err } = await bundle(`--canary=${share}`, '--base', out);
      assert.deepEqual([code, /between 0 and 1/.test(err)], [2, true]);
    });
});

test('keygen makes a key that only its owner can read, and replaces none', async (t) => {
  const { root, key } = await startRepository(t);
  assert.equal(statSync(key).mode & 0o777, 0o600);
  assert.equal(readTrustedKeys(join(root, 'ours.pub.json')).length, 1);
  const again = await run('keygen', join(root, 'ours'));
  assert.deepEqual([again.code, /is there/.test(again.err)], [2, true]);
});

/** A repository whose `main` has one policy directory with one role, and a key. */
async function startRepository(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-bundle-cli-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const policies = join(root, 'repository/policies');
  const out = join(root, 'policies.bundle.json');
  mkdirSync(policies, { recursive: true });
  const git = (...args: string[]): string => {
    const { status, stdout, stderr } = spawnSync(
      'git',
      ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args],
      { cwd: join(root, 'repository'), encoding: 'utf8' },
    );
    assert.equal(status, 0, stderr);
    return stdout.trim();
  };
  const write = (name: string, text: string) => writeFileSync(join(policies, name), text);
  const commit = (name: string, text: string) => {
    write(name, text);
    git('add', '.');
    git('commit', '-m', name);
  };
  git('init', '-q', '-b', 'main');
  commit('a.yaml', role('one'));
  assert.equal((await run('keygen', join(root, 'ours'))).code, 0);
  const key = join(root, 'ours.key.json');
  return {
    root,
    policies,
    out,
    key,
    git,
    write,
    commit,
    head: () => git('rev-parse', 'HEAD'),
    bundle: (...more: string[]) => run('bundle', policies, '--key', key, '--out', out, ...more),
    opened: async (path = out) =>
      openBundle(await readBundleText(path), readTrustedKeys(join(root, 'ours.pub.json'))).bundle,
  };
}
