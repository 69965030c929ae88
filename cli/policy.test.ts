import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QUICKSTART, run } from './policy/testing.ts';

const wrong = [
  [[], /^usage: outrider policy COMMAND/],
  [['chek'], /^there is no `outrider policy chek`; did you mean "check"\?/],
  [['frobnicate'], /^there is no `outrider policy frobnicate`\n/],
  [['check'], /^which directory/],
  [['check', 'a', 'b'], /^which directory/],
  [['check', QUICKSTART, '--strict'], /^there is no option --strict\n/],
  [['check', QUICKSTART, '--jsn'], /^there is no option --jsn; did you mean --json\?/],
  [['explain', QUICKSTART], /^which request/],
  [['explain', QUICKSTART, '--request', 'GET https://a.example.com/'], /^as whom/],
  [
    ['explain', QUICKSTART, '--role', 'analyst', '--request', 'GET /', '--phase', 'build'],
    /^which phase/,
  ],
  [
    ['explain', QUICKSTART, '--role', 'analyst', '--request', 'GET /', '--claim', 'x'],
    /NAME=VALUE/,
  ],
  [['test', QUICKSTART, '--min-score', '95'], /^--min-score is about --mutate/],
  [['test', QUICKSTART, '--coverage', '101'], /^--coverage is a whole number from 0 to 100/],
  [['diff', QUICKSTART], /^which two\?/],
  [['diff', 'a', 'b', '--json', '--markdown'], /not both/],
  [['diff', '--git', 'HEAD', '/policies'], /relative to here/],
  [['suggest', QUICKSTART], /^which policies and which audit/],
  [['simulate', QUICKSTART], /^which policies and which audit/],
  [['simulate', QUICKSTART, 'x', '--phase', 'build'], /^which phase/],
] as const;
for (const [argv, expected] of wrong)
  test(`policy ${argv.join(' ').replaceAll(QUICKSTART, 'DIR')} is wrong usage: exit 2`, async () => {
    const { code, out, err } = await run(...argv);
    assert.equal(code, 2);
    assert.equal(out, '');
    assert.match(err, expected);
    assert.match(err, /usage: outrider policy/);
  });

const COMMANDS = ['check', 'test', 'diff', 'explain', 'suggest', 'simulate'] as const;

test('help names every command, and each explains itself and its exit codes', async () => {
  const { code, out } = await run('--help');
  assert.equal(code, 0);
  for (const name of COMMANDS) {
    assert.match(out, new RegExp(`^  ${name} `, 'm'));
    const help = await run(name, '--help');
    assert.equal(help.code, 0);
    assert.match(help.out, new RegExp(`^usage: outrider policy ${name} `));
    assert.match(help.out, /^Exit: 0[ ,]/m);
    assert.match(help.out, /--json/);
    for (const line of help.out.split('\n')) assert.ok(line.length <= 130, line);
  }
});

for (const name of ['check', 'test', 'explain', 'suggest', 'simulate'] as const)
  test(`${name}: a directory that cannot be read is exit 2, in words or as JSON`, async () => {
    const more = {
      check: [],
      test: [],
      explain: ['--role', 'analyst', '--request', 'GET /'],
      suggest: [QUICKSTART],
      simulate: [QUICKSTART],
    }[name];
    const argv = [name, '/nonexistent', ...more];
    // QUICKSTART holds no *.jsonl file, which is found before the directory is read.
    const audit = name === 'suggest' || name === 'simulate';
    const words = await run(...argv);
    assert.equal(words.code, 2);
    assert.match(words.err, audit ? /holds no \*\.jsonl file/ : /cannot be read/);
    const json = await run(...argv, '--json');
    assert.equal(json.code, 2);
    assert.equal(Object(JSON.parse(json.out)).ok, false);
  });
