import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseRevision, readRevision } from './git-revision.ts';
import { directoryOf, writeFiles } from './testing.ts';

const OWN = { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };

/** A repository with one commit of these files. */
function repository(t: TestContext, files: Readonly<Record<string, string>>) {
  const directory = directoryOf(t, files);
  const git = (...args: string[]): string =>
    execFileSync('git', args, {
      cwd: directory,
      env: { ...process.env, ...OWN },
      encoding: 'utf8',
    });
  git('init', '--quiet', '--initial-branch', 'main');
  git('config', 'user.name', 'test');
  git('config', 'user.email', 'test@example.com');
  const commit = (): string => {
    git('add', '--all');
    git('commit', '--quiet', '--message', 'a commit');
    return git('rev-parse', 'HEAD').trim();
  };
  return { directory, git, commit, first: commit() };
}

const FILES = {
  'policies/b.yaml': 'b: 1\n',
  'policies/a/a.yml': 'ä: 1\n',
  'policies/notes.txt': 'no policy',
  'policies/.hidden.yaml': 'c: 1\n',
  'policies/.dots/d.yaml': 'd: 1\n',
  'policies2/other.yaml': 'e: 1\n',
  'top.yaml': 'f: 1\n',
};

test('a revision is read as a directory would be: sorted, policy files alone, nothing that begins with a dot', async (t) => {
  const { directory, first } = repository(t, FILES);
  rmSync(join(directory, 'policies'), { recursive: true });
  for (const rev of ['HEAD', 'main', first, first.slice(0, 10)])
    assert.deepEqual(await readRevision({ rev, path: 'policies' }, directory), [
      { name: 'a/a.yml', text: 'ä: 1\n' },
      { name: 'b.yaml', text: 'b: 1\n' },
    ]);
});

test('it is the commit that is read, and not what was changed since', async (t) => {
  const { directory, commit } = repository(t, FILES);
  writeFiles(directory, { 'policies/b.yaml': 'b: 2\n' });
  const text = async (rev: string) =>
    (await readRevision({ rev, path: 'policies' }, directory))[1]?.text;
  assert.equal(await text('HEAD'), 'b: 1\n');
  commit();
  assert.equal(await text('HEAD'), 'b: 2\n');
  assert.equal(await text('HEAD~1'), 'b: 1\n');
});

const PATHS = [
  ['', 'policies', 2],
  ['', 'policies/', 2],
  ['', './policies', 2],
  ['', 'policies/a', 1],
  ['policies', './a', 1],
  ['policies', '../policies2', 1],
  ['policies/a', '..', 2],
  ['policies/a', '../', 2],
  ['policies', 'policies2', 1],
  ['', 'none', 0],
  ['', 'top.yaml', 0],
  ['', '.', 4],
  ['', '', 4],
] as const;
for (const [from, path, count] of PATHS)
  test(`from "${from}" the path "${path}" holds ${count} policy files`, async (t) => {
    const { directory } = repository(t, FILES);
    const files = await readRevision({ rev: 'HEAD', path }, join(directory, from));
    assert.equal(files.length, count);
  });

for (const rev of [
  '-h',
  '--help',
  '--output=x',
  'nope',
  'HEAD^{tree}',
  'HEAD:policies',
  'main..HEAD',
  ' ',
])
  test(`"${rev}" is no revision`, async (t) => {
    const { directory } = repository(t, FILES);
    await assert.rejects(readRevision({ rev, path: 'policies' }, directory), {
      code: 'INVALID_REQUEST',
    });
  });

test('outside a repository there is no revision', async (t) => {
  const directory = directoryOf(t, {});
  await assert.rejects(readRevision({ rev: 'HEAD', path: '.' }, directory), {
    code: 'INVALID_REQUEST',
  });
});

test('a path that leads out of the repository is refused', async (t) => {
  const { directory } = repository(t, FILES);
  await assert.rejects(readRevision({ rev: 'HEAD', path: '../x' }, directory), {
    code: 'INVALID_REQUEST',
  });
});

test('links, files that are too large and files that are not UTF-8 are refused', async (t) => {
  const { directory, commit, git } = repository(t, FILES);
  const refused = async (message: RegExp) => {
    commit();
    await assert.rejects(readRevision({ rev: 'HEAD', path: 'bad' }, directory), {
      code: 'POLICY_INVALID',
      message,
    });
    git('rm', '--quiet', '-r', 'bad');
    mkdirSync(join(directory, 'bad'), { recursive: true });
  };
  mkdirSync(join(directory, 'bad'));
  symlinkSync('../policies/b.yaml', join(directory, 'bad/link.yaml'));
  await refused(/link\.yaml: links and submodules are not followed/);
  writeFileSync(join(directory, 'bad/large.yaml'), 'a'.repeat(1_048_577));
  await refused(/large\.yaml: the file is larger than 1 MiB/);
  writeFileSync(join(directory, 'bad/latin.yaml'), Buffer.from([0x61, 0xe4, 0x0a]));
  await refused(/latin\.yaml: the file is not UTF-8/);
});

test('a revision of a command line ends at its first colon', () => {
  assert.deepEqual(parseRevision('main:a:b'), { rev: 'main', path: 'a:b' });
  assert.deepEqual(parseRevision('main:'), { rev: 'main', path: '' });
  assert.equal(parseRevision('policies'), undefined);
  assert.equal(parseRevision(':policies'), undefined);
});
