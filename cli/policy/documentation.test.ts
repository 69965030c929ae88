import assert from 'node:assert/strict';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { directoryOf, QUICKSTART, run } from './testing.ts';

// docs/policy-tools.md: what it says that the commands print, they print.

const PAGE = readFileSync(join(packageRoot, 'docs/policy-tools.md'), 'utf8');
const [, AUDIT = ''] = /```jsonl\n([^]*?)```/.exec(PAGE) ?? [];
const EXAMPLES = [...PAGE.matchAll(/```console\n\$ outrider policy ([^\n]*)\n([^]*?)```/g)].map(
  ([, call = '', output = '']) => ({ call, output }),
);

test('the page has an example of every command that it names', () => {
  const named = [...PAGE.matchAll(/^\| [^|]*\| `policy (\w+)/gm)].map(([, name]) => name);
  assert.equal(named.length, 6);
  for (const name of named) assert.ok(EXAMPLES.some(({ call }) => call.startsWith(`${name} `)));
});

for (const { call, output } of EXAMPLES)
  test(`outrider policy ${call}`, async (t) => {
    const { out, err } = await run(...argvOf(t, call));
    assert.equal(err, '');
    let rest = out;
    for (const [at, piece] of output.split('[...]\n').entries()) {
      const found = rest.indexOf(piece);
      assert.ok(at === 0 ? found === 0 : found >= 0, `${piece}\nis not in\n${rest}`);
      rest = rest.slice(found + piece.length);
    }
    if (!output.endsWith('[...]\n')) assert.equal(rest, '');
  });

const OBJECTS = [...PAGE.matchAll(/^\| `([a-z]+ [^`]*)` \| (`ok`.*|`role`.*) \|$/gm)].map(
  ([, call = '', fields = '']) => ({
    call,
    fields: [...fields.replace(/\([^)]*\)/g, '').matchAll(/`(\w+)`/g)].map(([, name]) => name),
  }),
);

test('the page has the fields of every command, and of what none could do', () => {
  assert.equal(OBJECTS.length, 7);
});

for (const { call, fields } of OBJECTS)
  test(`outrider policy ${call} --json has ${fields.join(', ')}`, async (t) => {
    const { out } = await run(...argvOf(t, call), '--json');
    assert.deepEqual(Object.keys(Object(JSON.parse(out))), fields);
  });

/** The words of a call, in a directory as the page describes it. */
function argvOf(t: TestContext, call: string): string[] {
  const directory = directoryOf(t, { 'audit/sidecar.jsonl': AUDIT });
  for (const name of ['policies', 'next'])
    cpSync(QUICKSTART, join(directory, name), { recursive: true });
  const changed = join(directory, 'next/egress-analyst.yaml');
  const text = readFileSync(changed, 'utf8');
  assert.ok(text.includes('[GET, HEAD]'));
  writeFileSync(changed, text.replace('[GET, HEAD]', '[GET, POST]'));
  return [...call.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain = '']) =>
    ['policies', 'next', 'audit', 'nowhere'].includes(plain)
      ? join(directory, plain)
      : (quoted ?? plain),
  );
}
