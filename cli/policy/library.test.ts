import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { loadDirectory, loadFiles, type PolicyFile } from '#policystore';
import { mutate } from '#policystore/review';
import { EXAMPLE, LIBRARY, type LibraryEntry, ROLE_ENTRY, readLibrary } from './library.ts';

const library = readLibrary();
const role = filesOf(library.get(ROLE_ENTRY), '');

test('the library has what teams begin with', () => {
  assert.deepEqual(
    [...library.keys()],
    [
      'role',
      'clickhouse-read',
      'debian',
      'github-read',
      'logs-read',
      'metrics-read',
      'model-api',
      'npm',
      'pip',
      's3-results',
    ],
  );
});

test('all of it together is one sound policy', async () => {
  const { documents } = await loadDirectory(LIBRARY);
  assert.ok(documents.tests.length > library.size);
});

for (const entry of library.values())
  describe(entry.name, () => {
    test('says what it is, and of each parameter what stands in its place', () => {
      assert.ok(entry.title.length > 3 && entry.about.length > 20);
      for (const { name, kind, example, about, pattern, from } of entry.parameters) {
        assert.match(name, /^[a-z]+$/);
        assert.ok(about.length > 3);
        if (kind === 'places') assert.ok(from !== undefined && new URL(example).port === '8443');
        else assert.match(example, new RegExp(pattern ?? '^.$'));
        const word = kind === 'places' ? new URL(example).hostname : example;
        for (const [variant, files] of entry.variants)
          assert.ok(
            files.some(({ text }) => text.includes(word)),
            `${variant}: ${word}`,
          );
      }
    });

    for (const variant of entry.variants.keys()) {
      const what = variant === '' ? 'it' : `over ${variant} it`;
      if (entry.name !== ROLE_ENTRY)
        test(`${what} is sound, tested, and 95 in 100 mistakes in it would be noticed`, () => {
          const { documents, set } = loadFiles([...role, ...filesOf(entry, variant)]);
          for (const list of [documents.egressPolicies, documents.tests])
            assert.ok(list.length > 0);
          const { noticed, unnoticed } = mutate(documents, set);
          const score = (100 * noticed) / (noticed + unnoticed.length);
          assert.ok(noticed > 0);
          assert.ok(score >= 95, `${score} %: ${unnoticed.map(({ change }) => change).join('\n')}`);
        });

      test(`${what} names the role and the owner that a starter replaces, and no host of its own`, () => {
        for (const { name, text } of filesOf(entry, variant)) {
          assert.ok(text.includes(EXAMPLE.role), name);
          assert.ok(text.includes(`owner: ${EXAMPLE.owner}`), name);
          const hosts = [...text.matchAll(/\b(?:[a-z0-9-]+\.)+(?:com|org|net|io|dev)\b/g)].map(
            ([host]) => host,
          );
          const foreign = hosts.filter(
            (host) => !/(^|\.)example\.com$|(^|\.)github\.com$/.test(host),
          );
          assert.deepEqual(foreign, [], name);
        }
      });
    }
  });

describe('editors', () => {
  const roots = ['policies/library', 'examples'].map((name) => join(packageRoot, name));
  const files = roots.flatMap((root) =>
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.ya?ml$/.test(name))
      .map((name) => join(root, name))
      .filter((path) => /^kind:/m.test(readFileSync(path, 'utf8'))),
  );

  test('find the schema from every policy file of the library and the examples', () => {
    assert.ok(files.length > 25);
    for (const path of files) assert.equal(schemaOf(path), 'policy.schema.json', path);
  });

  test('and from an installed package', () => {
    const { files: shipped }: { files?: string[] } = JSON.parse(
      readFileSync(join(packageRoot, 'package.json'), 'utf8'),
    );
    for (const name of ['policy.schema.json', 'policies/library'])
      assert.ok(shipped?.includes(name), name);
  });
});

/** What the first line of a file names, from the top of the repository; undefined where there is no such file. */
function schemaOf(path: string): string | undefined {
  const [, named = ''] =
    /^# yaml-language-server: \$schema=(\S+)\n/.exec(readFileSync(path, 'utf8')) ?? [];
  const schema = join(dirname(path), named);
  return named !== '' && existsSync(schema) ? relative(packageRoot, schema) : undefined;
}

function filesOf(entry: LibraryEntry | undefined, variant: string): PolicyFile[] {
  const files = entry?.variants.get(variant);
  assert.ok(files);
  return files.map(({ name, text }) => ({ name: `${entry?.name}/${name}`, text }));
}
