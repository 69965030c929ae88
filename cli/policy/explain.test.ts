import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QUICKSTART, run, runJson } from './testing.ts';

const explain = (request: string, ...more: string[]) =>
  run('explain', QUICKSTART, '--role', 'analyst', '--request', request, ...more);

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
    /^deny: path_not_allowed[^]*analyst\/metrics-read does not apply: path \/api\/v1\/admin\/tsdb: the rule has [^\n]*\(path_not_allowed\)/,
  ],
  ['GET https://example.com/', [], 0, /^allow by example-site[^]*target {2}example\.com:443/],
  ['GET https://other.example.com/', [], 1, /^deny by boundary:quickstart: host_not_allowed/],
  ['GET https://example.com//x', [], 1, /^deny: path_malformed/],
] as const;
for (const [request, more, code, expected] of explained)
  test(`explain ${request} ${more.join(' ')} exits ${code}`, async () => {
    const answer = await explain(request, ...more);
    assert.equal(answer.code, code);
    assert.match(answer.out, expected);
    const json: unknown = JSON.parse((await explain(request, '--json', ...more)).out);
    assert.equal(Object(json).decision.verdict, code === 0 ? 'allow' : 'deny');
  });

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
  assert.deepEqual([stranger.code, stranger.err], [1, 'no role is yours\n']);
  assert.match((await as('outrider:local', '--role', 'analist')).err, /did you mean "analyst"/);
});

test('an address that is none is wrong usage, not a name that leads nowhere', async () => {
  const answer = await explain('GET https://example.com/', '--resolve', '10.0.0.l');
  assert.equal(answer.code, 2);
  assert.match(answer.err, /^--resolve 10\.0\.0\.l: must be an IP address\n/);
});

test('a role that is not there is told its right spelling', async () => {
  const argv = [
    'explain',
    QUICKSTART,
    '--role',
    'analist',
    '--request',
    'GET https://example.com/',
  ];
  const { code, err } = await run(...argv);
  assert.deepEqual([code, err], [1, 'there is no role "analist" (did you mean "analyst"?)\n']);
  const { json } = await runJson(...argv);
  assert.equal(json['code'], 'ROLE_DENIED');
});
