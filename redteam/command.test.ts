import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { ATTACKS } from './attacks/index.ts';
import { redteam } from './command.ts';

async function run(...argv: readonly string[]) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const code = await redteam(argv, { out, err, self: [] });
  out.end();
  err.end();
  return { code, out: await text(out), err: await text(err) };
}

describe('outrider redteam', () => {
  const wrong = [
    [['--only', '24,9999'], /no attack 9999/],
    [['--only', '24,x'], /no attack x$/m],
    [['--backend', 'chroot'], /no backend chroot/],
    [['--runner', 'there'], /"there" is not an address/],
    [['--nothing'], /Unknown option/],
    [['24'], /Unexpected argument/],
  ] as const;
  for (const [argv, says] of wrong)
    test(`${argv.join(' ')} is wrong usage`, async () => {
      const { code, err } = await run(...argv);
      assert.equal(code, 2);
      assert.match(err, says);
    });

  test('--list names every attack and runs none', async () => {
    const { code, out } = await run('--list');
    assert.equal(code, 0);
    assert.equal(out.trimEnd().split('\n').length, ATTACKS.length);
    const { out: json } = await run('--list', '--json');
    assert.equal(JSON.parse(json).attacks.length, ATTACKS.length);
  });

  test('a runner that is not there is a failure, not an empty success', async () => {
    const { code, out, err } = await run('--runner', 'unix:/nonexistent/runner.sock');
    assert.equal(code, 1);
    assert.equal(out, '');
    assert.match(err, /outrider redteam: /);
  });
});

test('docs/redteam.md lists every attack with its control, and nothing else', () => {
  const page = readFileSync(join(packageRoot, 'docs/redteam.md'), 'utf8');
  const [, section = ''] = page.split('## The attacks\n');
  const listed = [...(section.split('Of the list these')[0]?.matchAll(/^\| \d.*$/gm) ?? [])].map(
    String,
  );
  const rows = ATTACKS.map(
    ({ id, group, name, control }) => `| ${id} | ${group} | ${name} | ${control.how} |`,
  );
  assert.deepEqual(listed, rows);
});
