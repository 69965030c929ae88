import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { diffPolicySets } from '#policies/review';
import { parseFiles, problemOf, runCases } from '#policystore';
import { directoryOf, policyText, QUICKSTART, run, runJson } from './testing.ts';

type Line = Readonly<Record<string, unknown>>;

const deny = (method: string, target: string, reason: string, more: Line = {}): Line => ({
  method,
  target,
  verdict: 'deny',
  reason,
  ...more,
});

/** An audit file of these requests. */
function auditOf(t: TestContext, lines: readonly Line[]): string {
  const text = lines.map((line) =>
    JSON.stringify({
      v: 1,
      part: 'sidecar',
      event: 'request',
      role: 'analyst',
      tenant: 'local',
      ...line,
    }),
  );
  return join(directoryOf(t, { 'sidecar.jsonl': `${text.join('\n')}\n` }), 'sidecar.jsonl');
}

function filesOf(directory: string) {
  return readdirSync(directory).map((name) => ({
    name,
    text: readFileSync(join(directory, name), 'utf8'),
  }));
}

/** What the quickstart's demo tries, as its audit has it. */
const DEMO = [
  deny('GET', 'http://drop.example.net/', 'host_not_allowed', { rule: 'boundary:quickstart' }),
  deny('CONNECT', 'drop.example.net:443', 'host_not_allowed', { rule: 'boundary:quickstart' }),
  deny('CONNECT', 'example.com:443', 'sni_mismatch'),
  deny('POST', 'prometheus/metrics/api/v1/admin/tsdb/delete_series', 'path_not_allowed', {
    egressId: 'r-1',
  }),
  deny('POST', 'http/example/items', 'method_not_allowed', { egressId: 'r-2' }),
  deny('POST', 'http/example/items', 'method_not_allowed', { egressId: 'r-3', part: 'sidecar' }),
  deny('POST', 'http/example/items', 'method_not_allowed', { egressId: 'r-3', part: 'proxy' }),
  deny('GET', 'http://169.254.169.254/latest/meta-data/', 'ip_forbidden_class'),
  deny('GET', 'http://localhost:9090/', 'ip_forbidden_class'),
  { method: 'GET', target: 'http/example/items', verdict: 'allow', rule: 'example-read' },
];

test('of the demo: the policy that is suggested allows exactly what was refused, and nothing more', async (t) => {
  const { code, out } = await run('suggest', QUICKSTART, auditOf(t, DEMO));
  assert.equal(code, 1);
  const load = (...more: string[]) =>
    parseFiles([
      ...filesOf(QUICKSTART),
      ...more.map((text, at) => ({ name: `more-${at}.yaml`, text })),
    ]).set;
  const changes = diffPolicySets(load(), load(out));
  assert.deepEqual(
    changes.map(({ change, example }) => `${change} ${example}`),
    ['allowed POST /http/example/items'],
  );
  // The diff gives one example a rule. Nothing more: with exactly this request denied, nothing has changed at all.
  const takenBack =
    'apiVersion: outrider/v1\nkind: EgressPolicy\nmetadata: {name: back}\nspec: {subjects: [{role: analyst}], mode: enforce, allow: [], deny: [{id: back, datasource: http/example, methods: [POST], paths: [/items]}]}\n';
  assert.deepEqual(diffPolicySets(load(), load(out, takenBack)), []);
});

test('of the demo: each rule names the lines that ask for it, and what comes near; tests that say the opposite are named', async (t) => {
  const { out } = await run('suggest', QUICKSTART, auditOf(t, DEMO));
  assert.match(
    out,
    /# asked for 2 times: sidecar\.jsonl:5, sidecar\.jsonl:6\n {4}# near: analyst\/example-read \(method POST: the rule has GET, HEAD\)\n {4}- id: http-example\n/,
  );
  assert.match(
    out,
    /# These test cases say the opposite[^\n]*\n# {3}test-analyst\.yaml:\d+:\d+: case "the example cannot be written to"[^\n]*\n# No rule is suggested for:\n# {3}analyst: GET http:\/\/drop\.example\.net\/: boundary:quickstart forbids it/,
  );
  for (const line of [
    'CONNECT example.com:443: sni_mismatch',
    'POST /prometheus/metrics/api/v1/admin/tsdb/delete_series: no rule opens this of prometheus',
    'GET http://169.254.169.254/latest/meta-data/: ip_forbidden_class',
  ])
    assert.ok(out.includes(`#   analyst: ${line}`), out);
});

test('the tests that come with it hold, and none denies what was asked for', async (t) => {
  const POLICY = policyText({
    allow: ['{id: a, hosts: [a.example.com], methods: [GET], paths: any}'],
  });
  const directory = directoryOf(t, { 'p.yaml': POLICY });
  const audit = auditOf(t, [
    deny('GET', 'http://b.example.com/v1/x', 'host_not_allowed'),
    deny('CONNECT', 'git.example.org:443', 'host_not_allowed'),
    deny('CONNECT', 'git.example.org:8443', 'host_not_allowed'),
  ]);
  const { out } = await run('suggest', directory, audit);
  const loaded = parseFiles([
    { name: 'p.yaml', text: POLICY },
    { name: 's.yaml', text: out },
  ]);
  const results = runCases(loaded.set);
  assert.equal(results.length, 6);
  assert.deepEqual(results.flatMap(problemOf), []);
});

test('what report mode let through is suggested like what was refused', async (t) => {
  const directory = directoryOf(t, {
    'p.yaml': policyText({ allow: [] })
      .replace('mode: enforce', 'mode: report\n  until: 2999-12-31')
      .replace('  allow:\n', '  allow: []\n'),
  });
  const audit = auditOf(t, [
    {
      method: 'GET',
      target: 'http://b.example.com/x',
      verdict: 'allow',
      rule: 'report',
      reportedReason: 'host_not_allowed',
    },
  ]);
  const { code, json } = await runJson('suggest', directory, audit);
  assert.equal(code, 1);
  assert.deepEqual(Object(json['policies'])[0].rules[0].rule, {
    id: 'b-example-com-http',
    hosts: ['b.example.com'],
    scheme: 'http',
    methods: ['GET'],
    paths: ['/x'],
  });
});

test('nothing that an audit holds can end a comment or a text of the output: it loads, and says no more than it says', async (t) => {
  const directory = directoryOf(t, {
    'p.yaml': policyText({
      allow: ['{id: a, hosts: [a.example.com], methods: [GET], paths: any}'],
    }),
  });
  const evil = 'x\n---\napiVersion: outrider/v1\nkind: EgressPolicy\n\u001b[2J\u202e';
  const audit = auditOf(t, [
    deny('GET', `http://b.example.com/${evil}`, 'host_not_allowed'),
    deny('GET', 'http://b.example.com/x', evil),
    deny(evil, 'http://b.example.com/x', 'host_not_allowed'),
    deny('GET', 'http://b.example.com/x', 'host_not_allowed', { role: `analyst${evil}` }),
    deny('GET', 'http://b.example.com/it,{a}', 'host_not_allowed'),
    deny('GET', "http://b.example.com/it's:x", 'host_not_allowed'),
  ]);
  const { out } = await run('suggest', directory, audit);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  assert.doesNotMatch(out, /[^\n\P{Cc}]|\p{Cf}/u);
  const loaded = parseFiles([...filesOf(directory), { name: 's.yaml', text: out }]);
  const [, suggested, ...more] = loaded.documents.egressPolicies;
  assert.deepEqual([more.length, suggested?.spec.allow.length], [0, 1]);
});

test('--role chooses, --generalise widens, and with nothing to suggest it exits 0', async (t) => {
  const directory = directoryOf(t, {
    'p.yaml': policyText({
      allow: ['{id: a, hosts: [a.example.com], methods: [GET], paths: any}'],
    }),
  });
  const audit = auditOf(
    t,
    [1, 2, 3].map((id) => deny('GET', `http://b.example.com/u/${id}`, 'host_not_allowed')),
  );
  const none = await run('suggest', directory, audit, '--role', 'other');
  assert.deepEqual([none.code, none.out], [0, '# Nothing to suggest.\n']);
  const wide = await run('suggest', directory, audit, '--generalise');
  assert.match(wide.out, /paths: \["\/u\/\*"\]/);
});

test('a Boundary that wants an expiry gets one, no later than it allows', async (t) => {
  const directory = directoryOf(t, {
    'p.yaml': policyText({
      allow: ['{id: a, hosts: [a.example.com], methods: [GET], paths: any}'],
      more: ['kind: Boundary\nmetadata: {name: b}\nspec: {maxExpiryDays: 30}'],
    }).replace(
      'kind: EgressPolicy\nmetadata: {name: analyst}',
      `kind: EgressPolicy\nmetadata: {name: analyst, expires: ${inDays(3)}}`,
    ),
  });
  const { out } = await run(
    'suggest',
    directory,
    auditOf(t, [deny('GET', 'http://b.example.com/x', 'host_not_allowed')]),
  );
  const expires = /expires: "?(\d{4}-\d\d-\d\d)/.exec(out)?.[1];
  assert.ok([inDays(29), inDays(30)].includes(expires ?? ''), out);
});

function inDays(days: number): string {
  return new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10);
}
