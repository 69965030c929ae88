import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { policy } from './policy.ts';

const QUICKSTART = join(packageRoot, 'examples/quickstart/policies');
const explain = (request: string, ...more: string[]) =>
  run('explain', QUICKSTART, '--role', 'analyst', '--request', request, ...more);

test('check says that the quickstart is sound, in words and as JSON', async () => {
  const words = await run('check', QUICKSTART);
  assert.equal(words.code, 0);
  assert.match(
    words.out,
    /^ok: 6 documents in 5 files, \d+ test cases passed\ndigest [0-9a-f]{64}\n$/,
  );
  const json = JSON.parse((await run('check', QUICKSTART, '--json')).out) as Record<
    string,
    unknown
  >;
  assert.equal(json['ok'], true);
  assert.equal(json['documents'], 6);
});

test('check names file, line, column and the right spelling of what is wrong, and exits 1', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-cli-policy-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, 'a.yaml'), 'apiVersion: outrider/v1\nkind: Rolle\n');
  const words = await run('check', directory);
  assert.equal(words.code, 1);
  assert.equal(words.out, '');
  assert.match(words.err, /^a\.yaml:2:7: .*\(did you mean "Role"\?\)\n$/);
  const json = JSON.parse((await run('check', directory, '--json')).out) as {
    code: string;
    problems: string[];
  };
  assert.equal(json.code, 'POLICY_INVALID');
  assert.equal(json.problems.length, 1);
  assert.equal((await run('check', join(directory, 'none'))).code, 1);
});

const explained = [
  ['GET /prometheus/metrics/api/v1/query?query=up', [], 0, /^allow by metrics-read of analyst\n/],
  [
    'GET /prometheus/metrics/api/v1/query?query=up',
    ['--resolve', '127.0.0.1'],
    0,
    /^allow by metrics-read/,
  ],
  [
    'GET /prometheus/metrics/api/v1/query?query=up',
    ['--resolve', '169.254.169.254'],
    1,
    /^deny: resolved_ip_forbidden/,
  ],
  [
    'POST /prometheus/metrics/api/v1/admin/tsdb',
    [],
    1,
    /^deny: path_not_allowed[^]*analyst\/metrics-read does not apply:[^\n]*\(path_not_allowed\)/,
  ],
  ['GET https://example.com/', [], 0, /^allow by example-site[^]*target {2}example\.com:443/],
  ['GET https://other.example.com/', [], 1, /^deny by boundary:quickstart: host_not_allowed/],
  ['GET https://example.com//x', [], 1, /^deny: path_malformed/],
] as const;
for (const [request, more, code, expected] of explained) {
  test(`explain ${request} ${more.join(' ')} exits ${code}`, async () => {
    const answer = await explain(request, ...more);
    assert.equal(answer.code, code);
    assert.match(answer.out, expected);
    const json = JSON.parse((await explain(request, '--json', ...more)).out) as {
      decision: { verdict: string };
    };
    assert.equal(json.decision.verdict, code === 0 ? 'allow' : 'deny');
  });
}

test('explain takes a principal in place of a role, and says when it has none', async () => {
  const as = (issuer: string, ...more: string[]) =>
    run(
      'explain',
      QUICKSTART,
      '--issuer',
      issuer,
      '--subject',
      'ann',
      '--request',
      'GET https://example.com/',
      ...more,
    );
  assert.equal((await as('outrider:local')).code, 0);
  const stranger = await as('https://idp.example.com');
  assert.equal(stranger.code, 1);
  assert.equal(stranger.err, 'no role is yours\n');
  assert.match((await as('outrider:local', '--role', 'analist')).err, /did you mean "analyst"/);
});

const wrong = [
  [[], /^usage:/],
  [['check'], /which directory/],
  [['check', 'a', 'b'], /which directory/],
  [['check', QUICKSTART, '--strict'], /--strict/],
  [['explain', QUICKSTART], /which request/],
  [['explain', QUICKSTART, '--request', 'GET https://a.example.com/'], /as whom/],
  [
    ['explain', QUICKSTART, '--role', 'analyst', '--request', 'GET /', '--phase', 'build'],
    /which phase/,
  ],
  [['diff', 'a', 'b'], /`outrider policy diff` is not in this version/],
  [['chek'], /there is no `outrider policy chek`/],
] as const;
for (const [argv, expected] of wrong) {
  test(`policy ${argv.slice(0, 4).join(' ').replace(QUICKSTART, 'DIR')} is wrong usage`, async () => {
    const answer = await run(...argv);
    assert.equal(answer.code, 2);
    assert.equal(answer.out, '');
    assert.match(answer.err, expected);
  });
}

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err] = [new PassThrough({ encoding: 'utf8' }), new PassThrough({ encoding: 'utf8' })];
  const code = await policy(argv, out, err);
  return { code, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}
