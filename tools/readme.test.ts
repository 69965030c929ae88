import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { describe, test } from 'node:test';
import { FAILURES, OutriderError } from '#core/errors';
import { packageRoot } from '#core/package-root';
import { REASONS } from '#policies';
import { loadFiles } from '#policystore';

/** What the pages say is held against what is there: commands, links, tables, examples. */

const read = (path: string): string => readFileSync(join(packageRoot, path), 'utf8');
const PAGES = markdownFiles(packageRoot);
const README = read('README.md');
const POLICIES = read('docs/policies.md');

describe('commands', () => {
  const scripts: Record<string, string> = JSON.parse(read('package.json')).scripts;
  const usage = run('cli/main.ts', 'help').stdout;
  const known = (command: string): string | undefined => {
    const [, own, script, rest = ''] =
      /^(?:echo '[^']*' \| )?npm (?:(start|test)|run (?:-s )?([\w:]+))(?: -- (.*))?$/.exec(
        command,
      ) ?? [];
    const name = own ?? script;
    if (name === undefined) return 'is not an npm command';
    if (!Object.hasOwn(scripts, name)) return `there is no script ${name}`;
    const [verb = ''] = rest.split(' ');
    if (name === 'outrider' && !new RegExp(`^ {2}[\\w|]*\\b${verb}\\b`, 'm').test(usage))
      return `there is no outrider ${verb}`;
    return undefined;
  };

  for (const page of ['README.md', 'CONTRIBUTING.md'])
    test(`those of ${page} are npm scripts and commands of outrider`, () => {
      const commands = commandsOf(read(page));
      assert.ok(commands.length >= 3);
      for (const command of commands) assert.equal(known(command), undefined, command);
    });

  test('control: one that is not there would be found', () => {
    assert.equal(known('npm run nothing'), 'there is no script nothing');
    assert.equal(known('npm run -s outrider -- nothing'), 'there is no outrider nothing');
    assert.equal(known('make'), 'is not an npm command');
  });

  test('the policy commands of the README run, and allow what they show', () => {
    const commands = commandsOf(README).filter((command) => command.includes(' -- policy '));
    assert.equal(commands.length, 2);
    for (const command of commands) {
      const [, line = ''] = command.split(' -- ');
      const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(
        ([, quoted, bare]) => quoted ?? bare ?? '',
      );
      const { status, stderr } = run('cli/main.ts', ...words);
      assert.equal(status, 0, `${command}: ${stderr}`);
    }
  });

  test('benches that SPEC.md names exist', () => {
    const parts = [...read('SPEC.md').matchAll(/`npm run bench -- (\w+)`/g)].map(
      ([, part]) => part,
    );
    assert.ok(parts.length > 0);
    const { stderr } = run('bench/main.ts');
    for (const part of parts) assert.match(stderr, new RegExp(`\\b${part}\\b`));
  });
});

describe('links', () => {
  for (const page of PAGES)
    test(`of ${page} lead somewhere`, () => {
      const broken = linksOf(read(page)).filter((link) => !resolves(page, link));
      assert.deepEqual(broken, []);
    });

  test('control: a missing file and a missing heading would be found', () => {
    assert.equal(resolves('README.md', 'ARCHITECTURE.md'), true);
    assert.equal(resolves('README.md', 'ARCHITECTURE.md#trust-zones'), true);
    assert.equal(resolves('README.md', 'ARCHITECTURE.md#no-such-heading'), false);
    assert.equal(resolves('docs/README.md', 'SPEC.md'), false);
  });
});

describe('generated pages', () => {
  const cases = [
    ['docs/errors.md', 'codes of errors', FAILURES],
    ['docs/reasons.md', 'reasons of refusals', REASONS],
  ] as const;
  for (const [page, what, table] of cases)
    test(`${page} names all ${what} and nothing else`, () => {
      const named = [...read(page).matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name ?? '');
      assert.deepEqual(named.toSorted(), Object.keys(table).toSorted());
    });
});

test('docs/config.md says what every key is, also of mappings in a list', () => {
  const page = read('docs/config.md');
  const lists = [...page.matchAll(/^\| `(\w+)` \| list of mapping \{([^}]+)\}/gm)];
  assert.ok(lists.length >= 2);
  for (const [, list = '', keys = ''] of lists)
    for (const key of keys.split(', '))
      assert.match(
        page,
        new RegExp(`^\\| \`${key}\` \\| .+ \\| \\S.+ \\|$`, 'm'),
        `${list}: ${key}`,
      );
});

test('every promise of SPEC.md names a test, a check or a bench', () => {
  const rows = [...read('SPEC.md').matchAll(/^\| (.+) \| (.+) \|$/gm)].filter(
    ([, promise]) => !['promise', 'figure'].includes(promise ?? '') && !promise?.startsWith('---'),
  );
  assert.ok(rows.length > 30);
  for (const [, promise = '', held = ''] of rows)
    assert.match(
      held,
      /\.test\.ts\)|tools\/check-\w+\.mjs\)|^the same$|`npm run bench -- \w+[^`]*`/,
      promise,
    );
});

test('a row of the requirements stands in the names of the tests that SPEC.md gives for it', () => {
  const [, section = ''] = read('SPEC.md').split('## Requirements, row by row\n');
  const rows = [...section.matchAll(/^\| ([A-Z]\d+): .+? \| (.+) \|$/gm)];
  assert.ok(rows.length >= 18);
  for (const [, row = '', held = ''] of rows)
    for (const [, file = ''] of held.matchAll(/\]\(([^)]+)\)/g))
      assert.match(
        read(file),
        new RegExp(`(test|describe)\\(\\s*['"\`]([A-Z]\\d+ )*${row}\\b`),
        `${row} in ${file}`,
      );
});

test('the import table of ARCHITECTURE.md is the one that is enforced', () => {
  const rules: readonly { name: string; from: { path: string }; to: { pathNot: string[] } }[] =
    createRequire(import.meta.url)('../.dependency-cruiser.cjs').forbidden;
  const bare = (pattern: string): string => pattern.slice(1, -1);
  const enforced = rules
    .filter(({ name }) => name.includes('-reaches-only-'))
    .map(({ from, to }) => {
      const folder = bare(from.path);
      const may = to.pathNot.map(bare).filter((other) => other !== folder);
      return `| ${folder} | ${may.join(', ') || 'nothing of ours'} |`;
    });
  const [, section = ''] = read('ARCHITECTURE.md').split('| folder | may import |\n|---|---|\n');
  const written = section.split('\n\n', 1)[0]?.split('\n');
  assert.deepEqual(written, enforced);
});

test('the program of the README is the one in examples/embed', () => {
  const [, program] = /```ts\n([^]*?)```/.exec(README) ?? [];
  assert.equal(program, read('examples/embed/embed.ts'));
});

describe('docs/policies.md', () => {
  const documents = [...POLICIES.matchAll(/```yaml\n([^]*?)```/g)].map(([, text]) => text ?? '');
  const load = (texts: readonly string[]) =>
    loadFiles(texts.map((text, index) => ({ name: `${index}.yaml`, text })));

  test('its documents are one sound directory of every kind, and their cases pass', () => {
    const loaded = load(documents);
    for (const [kind, list] of Object.entries(loaded.documents)) assert.ok(list.length > 0, kind);
  });

  const later = [
    [
      'inject.oauth2.grant',
      /inject: .*/,
      'inject: {oauth2: {tokenUrl: "https://login.example.com/token", clientId: a, grant: refresh_token}}',
    ],
    ['onReject401: refreshOnce', 'inject:', 'onReject401: refreshOnce\n  inject:'],
  ] as const;
  const [, section = ''] = POLICIES.split('## Load errors until a later version');
  const table = section.split('What loads and does not', 1)[0] ?? '';

  for (const [field, from, to] of later)
    test(`${field} is the load error that it says`, () => {
      assert.ok(table.includes(`\`${field}\``), 'the page names it');
      const changed = documents.map((text) => text.replace(from, to));
      assert.notDeepEqual(changed, documents);
      assert.throws(
        () => load(changed),
        (error) =>
          error instanceof OutriderError &&
          error.code === 'POLICY_INVALID' &&
          error.message.includes('is not enforced in this version'),
      );
    });

  for (const inject of [
    '{mtls: true}',
    '{sigv4: {service: s3, region: eu}}',
    '{oauth2: {tokenUrl: "https://login.example.com/token", clientId: a}}',
  ])
    test(`control: ${inject} is none`, () => {
      load(documents.map((text) => text.replace(/inject: .*/, `inject: ${inject}`)));
    });

  test('and it says no others', () => {
    const named = [...table.matchAll(/`([\w.: ]+)`/g)].map(([, name]) => name);
    const others = named.filter((name) => !later.some(([field]) => field === name));
    assert.deepEqual(others, [], 'words around the fields');
  });
});

function run(program: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--conditions=outrider-source', join(packageRoot, program), ...args],
    { encoding: 'utf8', cwd: packageRoot },
  );
  return { status, stdout, stderr };
}

/** The lines of the fenced blocks that are for a shell. */
function commandsOf(page: string): string[] {
  const blocks = [...page.matchAll(/```sh\n([^]*?)```/g)];
  return blocks.flatMap(([, text = '']) => text.trim().split('\n'));
}

function markdownFiles(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (/^(?:node_modules|dist|\..*)$/.test(entry.name)) return [];
    if (entry.isDirectory()) return markdownFiles(path);
    return entry.name.endsWith('.md') ? [relative(packageRoot, path)] : [];
  });
}

/** Targets of relative links, outside of code. */
function linksOf(page: string): string[] {
  const prose = page.replaceAll(/```[^]*?```/g, '').replaceAll(/`[^`\n]*`/g, 'code');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !/^[a-z]+:/.test(target));
}

function resolves(page: string, link: string): boolean {
  const [path = '', heading] = link.split('#');
  const file = path === '' ? page : join(dirname(page), path);
  if (!existsSync(join(packageRoot, file))) return false;
  return (
    heading === undefined || (file.endsWith('.md') && headingsOf(read(file)).includes(heading))
  );
}

/** Anchors as forges make them of headings. */
function headingsOf(page: string): string[] {
  return [...page.replaceAll(/```[^]*?```/g, '').matchAll(/^#+ (.+)$/gm)].map(([, text = '']) =>
    text
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}
