import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { directoryOf, policyText, run, runJson } from './testing.ts';

const POLICY = policyText({
  allow: [
    '{id: api, hosts: [api.example.com], scheme: http, methods: [GET], paths: ["/v1/**"]}',
    '{id: paid, hosts: [paid.example.com], methods: [GET], paths: any, credential: key}',
    '{id: metrics, datasource: prometheus/main, methods: [GET], paths: any}',
    '{id: site, hosts: [site.example.com], protocols: [tunnel]}',
    '{id: live, hosts: [live.example.com], scheme: http, methods: [GET], paths: any, protocols: [websocket]}',
  ],
  more: [
    'kind: Datasource\nmetadata: {name: main}\nspec: {type: prometheus, endpoint: "https://metrics.example.com", auth: {type: none}}',
    'kind: CredentialBinding\nmetadata: {name: key}\nspec: {secretRef: file:key, hosts: [paid.example.com], inject: {header: authorization, format: "Bearer {secret}"}}',
  ],
});

type Line = Readonly<Record<string, unknown>>;

/** A directory with the policy, and an audit beside it. */
function place(t: TestContext, lines: readonly Line[]): [string, string] {
  const text = lines.map((line) =>
    JSON.stringify({
      v: 1,
      part: 'sidecar',
      event: 'request',
      role: 'analyst',
      tenant: 'acme',
      ...line,
    }),
  );
  const directory = directoryOf(t, {
    'policies/p.yaml': POLICY,
    'audit/sidecar.jsonl': `${text.join('\n')}\n`,
  });
  return [join(directory, 'policies'), join(directory, 'audit')];
}

const allowed = (method: string, target: string, more: Line = {}): Line => ({
  method,
  target,
  verdict: 'allow',
  rule: 'x',
  ...more,
});
const denied = (method: string, target: string, reason: string, more: Line = {}): Line => ({
  method,
  target,
  verdict: 'deny',
  reason,
  ...more,
});

const replays: readonly (readonly [string, Line, RegExp])[] = [
  [
    'was allowed and still is',
    allowed('GET', 'http://api.example.com/v1/x'),
    /^1 requests: 1 end as they did, 0 differently/,
  ],
  [
    'was allowed and would be refused',
    allowed('GET', 'http://api.example.com/v2'),
    /^1 would be refused \(path_not_allowed\), role analyst: GET http:\/\/api\.example\.com\/v2 \(sidecar\.jsonl:1\)\n/,
  ],
  [
    'was refused and still is',
    denied('POST', 'http://api.example.com/v1/x', 'method_not_allowed'),
    /1 end as they did/,
  ],
  [
    'was refused and would be allowed',
    denied('GET', 'http://api.example.com/v1/x', 'path_not_allowed'),
    /^1 would be allowed \(analyst\/api\)/,
  ],
  [
    'was let through by report mode and would be refused',
    allowed('GET', 'http://other.example.com/', {
      reportedReason: 'host_not_allowed',
      rule: 'report',
    }),
    /^1 would be refused \(host_not_allowed\)/,
  ],
  [
    'was cut off by a rate of its rule, which is an allow',
    { ...allowed('GET', 'http://api.example.com/v2'), verdict: 'limit', reason: 'rate_limited' },
    /^1 would be refused/,
  ],
  [
    'failed behind an allow',
    { ...allowed('GET', 'http://api.example.com/v1'), verdict: 'error', reason: 'dns_failed' },
    /1 end as they did/,
  ],
  [
    'was refused for what no rule is about',
    denied('CONNECT', 'site.example.com:443', 'sni_mismatch'),
    /1 were ended by something else than policy/,
  ],
  [
    'was refused in a flood',
    { verdict: 'limit', reason: 'refusal_flood' },
    /1 were ended by something else/,
  ],
  ['a tunnel', allowed('CONNECT', 'site.example.com:443'), /1 end as they did/],
  [
    'a WebSocket',
    allowed('GET', 'http://live.example.com/', { protocol: 'websocket' }),
    /1 end as they did/,
  ],
  [
    'a WebSocket where the rule is of HTTP alone',
    denied('GET', 'http://api.example.com/v1/x', 'protocol_not_allowed', { protocol: 'websocket' }),
    /1 end as they did/,
  ],
  [
    'a page where the rule is of WebSocket alone',
    allowed('GET', 'http://live.example.com/'),
    /^1 would be refused \(protocol_not_allowed\)/,
  ],
  [
    'a tunnel that would be looked into',
    allowed('CONNECT', 'paid.example.com:443'),
    /of 1 the audit does not tell enough/,
  ],
  [
    'a datasource',
    allowed('GET', 'prometheus/main/api/v1/query', { credential: 'datasource:prometheus/main' }),
    /1 end as they did/,
  ],
  [
    'carried no credential and would',
    allowed('GET', 'https://paid.example.com/'),
    /^1 would carry another credential \(none → key\)/,
  ],
  [
    'carried the same credential',
    allowed('GET', 'https://paid.example.com/', { credential: 'key' }),
    /1 end as they did/,
  ],
  [
    'has a target that was cut',
    denied('GET', `http://api.example.com/${'a'.repeat(250)}`, 'path_not_allowed'),
    /of 1 the audit does not tell enough/,
  ],
  [
    'has a role that no policy knows',
    allowed('GET', 'http://api.example.com/v1', { role: 'other' }),
    /^1 would be refused \(no_policy\), role other/,
  ],
  [
    'has no role',
    allowed('GET', 'http://api.example.com/v1', { role: undefined }),
    /of 1 the audit does not tell enough/,
  ],
];
for (const [what, line, expected] of replays)
  test(`a request that ${what}`, async (t) => {
    const { code, out } = await run('simulate', ...place(t, [line]));
    assert.match(out, expected);
    assert.equal(code, / would /.test(out) ? 1 : 0);
  });

test('sidecar and proxy recorded the same request: it counts once', async (t) => {
  const line = allowed('GET', 'http://api.example.com/v2', { egressId: 'req-1' });
  const { json } = await runJson('simulate', ...place(t, [line, { ...line, part: 'proxy' }]));
  assert.equal(json['requests'], 1);
});

test('an audit that somebody wrote anew, with spaces, is read', async (t) => {
  const [policies, audit] = place(t, [allowed('GET', 'http://api.example.com/v2')]);
  const file = join(audit, 'sidecar.jsonl');
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replaceAll(/([:,])"/g, '$1 "'));
  const { json } = await runJson('simulate', policies, audit);
  assert.equal(json['requests'], 1);
});

test('requests of one kind are one line, the most frequent first, and other records are passed over', async (t) => {
  const lines = [
    { event: 'start' },
    allowed('GET', 'http://api.example.com/v2/a'),
    denied('GET', 'http://api.example.com/v1/a', 'path_not_allowed'),
    allowed('GET', 'http://api.example.com/v2/b'),
    { event: 'exec' },
  ];
  const [policies, audit] = place(t, lines);
  const { code, out } = await run('simulate', policies, join(audit, 'sidecar.jsonl'));
  assert.equal(code, 1);
  assert.match(
    out,
    /^2 would be refused [^\n]*v2\/a \(sidecar\.jsonl:2\)\n1 would be allowed [^\n]*\n3 requests: 0 end as they did, 3 differently/,
  );
});

test('what a program asked for cannot move a cursor', async (t) => {
  const line = allowed('GET', 'http://api.example.com/v2?\u001b[2J', { role: 'x\r\u001b[1A' });
  const { out } = await run('simulate', ...place(t, [line]));
  assert.doesNotMatch(out, /[^\n\P{Cc}]/u);
});

test('a line that is no record, and a last one without an end, do no harm', async (t) => {
  const directory = directoryOf(t, {
    'p/p.yaml': POLICY,
    'a.jsonl': `{"event":"request"\n\nnonsense\n[]\n${JSON.stringify({ event: 'request', role: 'analyst', method: 'GET', target: 'http://api.example.com/v1', verdict: 'allow' })}`,
  });
  const { code, json } = await runJson(
    'simulate',
    join(directory, 'p'),
    join(directory, 'a.jsonl'),
  );
  assert.deepEqual([code, json['requests'], json['same']], [0, 1, 1]);
});
