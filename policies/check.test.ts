import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDocuments } from './check.ts';
import type {
  AllowRuleSpec,
  BoundarySpec,
  DatasourceSpec,
  DependenciesSpec,
  PolicyDocuments,
  PolicyTestCase,
  ToolSpec,
} from './document.ts';
import { binding, boundary, datasource, documents, egress, role } from './fixture.ts';
import { compilePolicySet } from './policy-set.ts';
import { formatDocumentPath } from './problem.ts';

const API: AllowRuleSpec = {
  id: 'api',
  hosts: ['api.example.com'],
  methods: ['GET'],
  paths: 'any',
};

/** One policy with one rule: the API rule with changes. */
const rule = (change: Partial<AllowRuleSpec>, rest: Partial<PolicyDocuments> = {}) =>
  documents({ egressPolicies: [egress('one', [{ ...API, ...change }])], ...rest });
const cidrRule = (cidr: string, allowPrivate?: boolean, spec?: BoundarySpec) => {
  const { hosts: _hosts, ...plain } = API;
  const net = { ...plain, cidrs: [cidr], ...(allowPrivate === undefined ? {} : { allowPrivate }) };
  return documents({
    egressPolicies: [egress('one', [net])],
    boundaries: spec ? [boundary('org', spec)] : [],
  });
};
const withCredential = (hosts: readonly string[], spec = {}, change: Partial<AllowRuleSpec> = {}) =>
  rule({ credential: 'token', ...change }, { credentialBindings: [binding('token', hosts, spec)] });
const source = (spec: Partial<DatasourceSpec>, bounds?: BoundarySpec, name = 'main') =>
  documents({
    datasources: [datasource('prometheus', name, spec)],
    boundaries: bounds ? [boundary('org', bounds)] : [],
  });
const tested = (
  one: Partial<PolicyTestCase['expect']>,
  as = 'analyst',
  more: Partial<PolicyTestCase> = {},
) =>
  rule(
    {},
    {
      tests: [
        {
          apiVersion: 'outrider/v1',
          kind: 'PolicyTest',
          metadata: { name: 't' },
          spec: {
            as: { role: as },
            cases: [
              {
                name: 'c',
                request: 'GET https://api.example.com/',
                expect: { verdict: 'allow', ...one },
                ...more,
              },
            ],
          },
        },
      ],
    },
  );

const installing = (dependencies: DependenciesSpec): PolicyDocuments =>
  documents({
    roles: [
      { ...role('analyst'), spec: { ...role('analyst').spec, sandbox: { dependencies } } },
      role('plain'),
    ],
    egressPolicies: [egress('packages', [API], [], { phase: 'install' })],
  });

const withTools = (tools: readonly ToolSpec[]): PolicyDocuments =>
  documents({ roles: [{ ...role('analyst'), spec: { ...role('analyst').spec, tools } }] });

const sound: readonly (readonly [string, PolicyDocuments])[] = [
  ['nothing at all', documents({ roles: [] })],
  [
    'tools with arguments',
    withTools(['a', { name: 'b', arguments: { db: ['x', 'y*', '*'], n: 1, all: true } }]),
  ],
  ['one plain rule', rule({})],
  ['a credential within its binding', withCredential(['*.example.com'], { paths: ['/**'] })],
  ['a public range', cidrRule('203.0.113.0/24')],
  [
    'a private range with every consent',
    cidrRule('10.1.0.0/16', true, { mayPrivate: ['10.0.0.0/8'] }),
  ],
  [
    'a loopback datasource with consent',
    source(
      { endpoint: 'http://127.0.0.1:9090', allowLoopback: true },
      { mayLoopbackDatasources: true },
    ),
  ],
  [
    'a private datasource with consent',
    source({ endpoint: 'http://10.1.2.3', allowPrivate: true }, { mayPrivate: ['10.1.0.0/16'] }),
  ],
  [
    'two bindings side by side',
    documents({
      egressPolicies: [
        egress('one', [
          { ...API, paths: ['/a/*'], credential: 'a' },
          { ...API, id: 'b', paths: ['/b/*'], credential: 'b' },
        ]),
      ],
      credentialBindings: [
        binding('a', ['api.example.com'], { paths: ['/a/**'] }),
        binding('b', ['api.example.com'], { paths: ['/b/**'] }),
      ],
    }),
  ],
  [
    'a wildcard around a never-host that the policy itself denies',
    documents({
      egressPolicies: [
        egress(
          'one',
          [{ ...API, hosts: ['*.example.com'] }],
          [{ id: 'not-x', hosts: ['x.example.com'] }],
        ),
      ],
      boundaries: [boundary('org', { neverHosts: ['x.example.com'] })],
    }),
  ],
  [
    'datasources of two types with one name',
    documents({ datasources: [datasource('prometheus', 'main'), datasource('loki', 'main')] }),
  ],
  [
    'a role that installs, and a policy for that',
    installing({ managers: ['pip', 'npm'], allow: ['@acme/*', 'a_b'], block: ['a-b-c', 'x*'] }),
  ],
  ['a test that expects a known reason', tested({ verdict: 'deny', reason: 'host_not_allowed' })],
];
for (const [what, from] of sound)
  test(`${what} is sound`, () => assert.deepEqual(problemsOf(from), []));

function granting(allow: readonly AllowRuleSpec[]): PolicyDocuments {
  const types = ['prometheus', 'loki', 'clickhouse', 's3'] as const;
  return documents({
    egressPolicies: [egress('one', allow)],
    datasources: types.map((type) => datasource(type, 'main')),
  });
}

const unsound: readonly (readonly [string, PolicyDocuments, RegExp])[] = [
  [
    'a policy for installing whose role may install nothing',
    documents({ egressPolicies: [egress('packages', [API], [], { phase: 'install' })] }),
    /subjects\[0\]\.role: the role "analyst" may install nothing: it has no spec\.sandbox\.dep/,
  ],
  [
    'a star amid an argument',
    withTools([{ name: 'a', arguments: { db: ['x', 'y*z'] } }]),
    /tools\[0\]\.arguments\.db: "\*" may only end a text: "y\*z"/,
  ],
  [
    'a tool with arguments beside itself without',
    withTools([{ name: 'a', arguments: { db: 'x' } }, 'a']),
    /tools\[0\]\.arguments: "a" stands in tools without arguments, too/,
  ],
  [
    'a package with a version in a list of names',
    installing({ managers: ['pip'], block: ['evil==1.0'] }),
    /dependencies\.block\[0\]: "evil==1\.0" is no package name of pip/,
  ],
  [
    'a scope for a role without npm',
    installing({ managers: ['pip'], allow: ['@acme/*'] }),
    /dependencies\.allow\[0\]: "@acme\/\*" is no package name of pip/,
  ],
  [
    'a star in the middle of a name',
    installing({ managers: ['npm'], allow: ['a*b'] }),
    /"a\*b" is no package name of npm/,
  ],
  [
    'a package that is allowed and blocked in another spelling',
    installing({ managers: ['pip'], allow: ['Foo_Bar'], block: ['foo-bar'] }),
    /allow\[0\]: "Foo_Bar" stands in block, too/,
  ],
  [
    'two roles of one name',
    documents({ roles: [role('a'), role('a')] }),
    /^Role a metadata\.name: there is another/,
  ],
  [
    'two datasources of one type and name',
    documents({ datasources: [datasource('loki', 'a'), datasource('loki', 'a')] }),
    /^Datasource loki\/a metadata\.name/,
  ],
  [
    'a day that does not exist',
    documents({ roles: [role('a', { expires: '2026-02-30' })] }),
    /metadata\.expires: the calendar/,
  ],
  [
    'a Boundary that expires',
    documents({
      boundaries: [
        {
          ...boundary('org', { neverPorts: [1] }),
          metadata: { name: 'org', expires: '2030-01-01' },
        },
      ],
    }),
    /metadata\.expires: a Boundary does not expire/,
  ],
  [
    'report mode until no day',
    documents({ egressPolicies: [egress('one', [], [], { mode: 'report', until: '2026-13-01' })] }),
    /spec\.until/,
  ],
  [
    'two rules of one id',
    documents({
      egressPolicies: [egress('one', [API], [{ id: 'api', hosts: ['a.example.com'] }])],
    }),
    /spec\.deny\[0\]\.id: another rule/,
  ],
  ['a rule called report', rule({ id: 'report' }), /spec\.allow\[0\]\.id: "report"/],
  [
    'a wildcard in the middle',
    rule({ hosts: ['a.*.example.com'] }),
    /spec\.allow\[0\]\.hosts\[0\]: a wildcard/,
  ],
  ['a wildcard beneath a top-level domain', rule({ hosts: ['*.com'] }), /hosts\[0\]: a host needs/],
  ['an address as a host', rule({ hosts: ['10.0.0.1'] }), /hosts\[0\]: addresses stand in/],
  [
    'a host that is not canonical',
    rule({ hosts: ['api.example.com.'] }),
    /write it as "api\.example\.com"/,
  ],
  ['localhost by another name', rule({ hosts: ['a.localhost'] }), /never reachable/],
  ['a path with dots', rule({ paths: ['/a/../b'] }), /paths\[0\]: a path begins/],
  [
    'a query pattern with a group',
    rule({ query: { 'a.b': '(x)' } }),
    /spec\.allow\[0\]\.query\["a\.b"\]: "\(x\)" is not understood/,
  ],
  [
    'a strict query without parameters',
    rule({ queryStrict: true }),
    /queryStrict: name the parameters/,
  ],
  ['a range without its length', cidrRule('203.0.113.0'), /cidrs\[0\]: this is not a range/],
  ['a mapped range', cidrRule('::ffff:0:0/96'), /cidrs\[0\]: this is not a range/],
  ['a range with bits behind its length', cidrRule('203.0.113.7/24'), /cidrs\[0\]/],
  [
    'a private range without a word',
    cidrRule('10.0.0.0/8', undefined, { mayPrivate: ['10.0.0.0/8'] }),
    /say `allowPrivate/,
  ],
  [
    'a private range without consent',
    cidrRule('10.0.0.0/8', true),
    /allowPrivate: this takes the consent/,
  ],
  [
    'a private range wider than the consent',
    cidrRule('10.0.0.0/8', true, { mayPrivate: ['10.1.0.0/16'] }),
    /cidrs: the Boundary "org" refuses "GET https:\/\/10\.0\.0\.0\/" by `mayPrivate`/,
  ],
  [
    'the loopback range',
    cidrRule('127.0.0.1/32', true, { mayPrivate: ['127.0.0.0/8'] }),
    /these addresses are loopback/,
  ],
  ['a burst without a rate', rule({ limits: { burst: 2 } }), /limits\.burst/],
  [
    'budgets',
    documents({
      egressPolicies: [
        egress('one', [API], [], { budgets: [{ id: 'b', per: ['tenant'], requests: 1 }] }),
      ],
    }),
    /spec\.budgets\[0\]\.per: a budget is for exactly one of hour, day and month/,
  ],
  [
    'a budget of two times',
    documents({
      egressPolicies: [
        egress('one', [API], [], { budgets: [{ id: 'b', per: ['day', 'hour'], requests: 1 }] }),
      ],
    }),
    /exactly one of hour, day and month/,
  ],
  [
    'labels of a host',
    rule({ labels: { tenant: 'a' } }),
    /labels: this is about the queries of prometheus or loki/,
  ],
  [
    'rows of a metrics server',
    granting([{ id: 'a', datasource: 'prometheus/main', limits: { rows: 1 } }]),
    /limits\.rows: this is about the queries of clickhouse/,
  ],
  [
    'ClickHouse without tables',
    granting([{ id: 'a', datasource: 'clickhouse/main' }]),
    /say which tables the rule grants/,
  ],
  [
    'S3 without operations',
    granting([{ id: 'a', datasource: 's3/main', prefixes: ['a/'] }]),
    /say which operations the rule grants/,
  ],
  [
    'alerts of Loki',
    granting([{ id: 'a', datasource: 'loki/main', endpoints: ['alerts'] }]),
    /endpoints: loki has query, series, labels, stats alone/,
  ],
  [
    'two rules that ask different things of the same queries',
    granting([
      { id: 'a', datasource: 'prometheus/main', labels: { tenant: 'a' } },
      { id: 'b', datasource: 'prometheus/main' },
    ]),
    /allow\[1\]\.id: "a" of "one" grants the same requests of prometheus\/main/,
  ],
  [
    'a policy without an end beneath a ceiling',
    rule({}, { boundaries: [boundary('org', { maxExpiryDays: 30 })] }),
    /wants `expires` at most 30 days ahead/,
  ],

  [
    'an unknown role',
    documents({ egressPolicies: [egress('one', [API], [], { subjects: [{ role: 'analist' }] })] }),
    /subjects\[0\]\.role: there is no Role "analist" \(did you mean "analyst"\?\)/,
  ],
  [
    'an unknown credential',
    rule({ credential: 'tokn' }),
    /credential: there is no CredentialBinding "tokn"/,
  ],
  [
    'an unknown datasource',
    documents({
      egressPolicies: [egress('one', [{ id: 'm', datasource: 'loki/mian' }])],
      datasources: [datasource('loki', 'main')],
    }),
    /did you mean "loki\/main"/,
  ],
  [
    'an unknown datasource in a deny rule',
    documents({ egressPolicies: [egress('one', [], [{ id: 'm', datasource: 'loki/x' }])] }),
    /deny\[0\]\.datasource/,
  ],
  ['a test as an unknown role', tested({}, 'analist'), /PolicyTest t spec\.as\.role/],
  [
    'a test that expects an unknown reason',
    tested({ reason: 'host_not_alowed' }),
    /expect\.reason: no refusal has this reason \(did you mean "host_not_allowed"/,
  ],
  [
    'a test whose name leads to something that is no address',
    tested({ verdict: 'deny' }, 'analyst', { resolve: ['203.0.113.7', '10.0.0.l'] }),
    /cases\[0\]\.resolve\[1\]: this must be an IP address/,
  ],
  [
    'no test where the Boundary requires one',
    rule({}, { boundaries: [boundary('org', { requireTests: true })] }),
    /requires a PolicyTest as the role "analyst"/,
  ],

  [
    'overlapping bindings',
    documents({
      egressPolicies: [
        egress('one', [
          { ...API, credential: 'a' },
          { ...API, id: 'b', hosts: ['*.example.com'], credential: 'b' },
        ]),
      ],
      credentialBindings: [binding('a', ['api.example.com']), binding('b', ['*.example.com'])],
    }),
    /CredentialBinding b spec\.hosts\[0\]: overlaps with the CredentialBinding "a": both would apply to "GET https:\/\/api\.example\.com\/"/,
  ],
  [
    'bindings that overlap in a path',
    documents({
      egressPolicies: [
        egress('one', [
          { ...API, paths: ['/a/*'], credential: 'a' },
          { ...API, id: 'b', paths: ['/*/b'], credential: 'b' },
        ]),
      ],
      credentialBindings: [
        binding('a', ['api.example.com'], { paths: ['/a/*'] }),
        binding('b', ['api.example.com'], { paths: ['/*/b'] }),
      ],
    }),
    /both would apply to "GET https:\/\/api\.example\.com\/a\/b"$/,
  ],
  [
    'a binding that no rule uses',
    rule({}, { credentialBindings: [binding('token', ['api.example.com'])] }),
    /CredentialBinding token spec\.hosts\[0\]: no rule/,
  ],
  [
    'a binding for a host that its rules do not reach',
    withCredential(['api.example.com', 'other.example.com']),
    /spec\.hosts\[1\]: no rule/,
  ],
  [
    "a rule beyond its binding's hosts",
    withCredential(['api.example.com'], {}, { hosts: ['*.example.com'] }),
    /credential: the CredentialBinding "token" is not for "GET https:\/\/any\.example\.com\/"/,
  ],
  [
    "a rule beyond its binding's paths",
    withCredential(['api.example.com'], { paths: ['/a/*'] }, { paths: ['/a/*', '/a/**'] }),
    /is not for "GET https:\/\/api\.example\.com\/a", which/,
  ],
  [
    'a rule with any path on a binding with some',
    withCredential(['api.example.com'], { paths: ['/a/*'] }),
    /is not for "GET https:\/\/api\.example\.com\/", which/,
  ],
  [
    'a credential without TLS',
    withCredential(['api.example.com'], {}, { scheme: 'http' }),
    /credential: a credential is not sent without TLS/,
  ],
  [
    'a format with the secret twice',
    withCredential(['api.example.com'], { inject: { header: 'x', format: '{secret}{secret}' } }),
    /inject\.format/,
  ],

  [
    'a credential in a header that frames',
    withCredential(['api.example.com'], {
      inject: { header: 'content-length', format: '{secret}' },
    }),
    /inject\.header: this header frames/,
  ],
  [
    'a datasource secret in a header that frames',
    source({ auth: { type: 'header', name: 'host' } }),
    /auth\.name: this header frames/,
  ],
  [
    'a format with a line feed',
    withCredential(['api.example.com'], { inject: { header: 'x', format: 'a\n{secret}' } }),
    /inject\.format/,
  ],
  [
    'loopback without the word',
    source({ endpoint: 'http://127.0.0.1:9090' }, { mayLoopbackDatasources: true }),
    /endpoint: this is loopback/,
  ],
  [
    'localhost without the word',
    source({ endpoint: 'http://localhost:9090' }, { mayLoopbackDatasources: true }),
    /endpoint: this is loopback/,
  ],
  [
    'loopback without a Boundary',
    source({ endpoint: 'http://127.0.0.1:9090', allowLoopback: true }),
    /allowLoopback: this takes the consent/,
  ],
  [
    'loopback against the Boundary',
    source(
      { endpoint: 'http://127.0.0.1:9090', allowLoopback: true },
      { mayLoopbackDatasources: false },
    ),
    /allowLoopback: this takes the consent/,
  ],
  [
    'private without the word',
    source({ endpoint: 'http://10.1.2.3' }, { mayPrivate: ['10.0.0.0/8'] }),
    /endpoint: this address is private/,
  ],
  [
    'private without a Boundary',
    source({ endpoint: 'http://10.1.2.3', allowPrivate: true }),
    /allowPrivate: this takes the consent/,
  ],
  [
    'private beyond the consent',
    source({ endpoint: 'http://10.1.2.3', allowPrivate: true }, { mayPrivate: ['10.2.0.0/16'] }),
    /lists this address in `mayPrivate`/,
  ],
  [
    'metadata, whatever is consented',
    source(
      { endpoint: 'http://169.254.169.254', allowPrivate: true, allowLoopback: true },
      { mayPrivate: ['169.254.0.0/16'], mayLoopbackDatasources: true },
    ),
    /this address is metadata/,
  ],
  ['metadata by name', source({ endpoint: 'http://metadata.google.internal' }), /never reachable/],
  [
    'a never-host',
    source({ endpoint: 'https://db.example.com' }, { neverHosts: ['*.example.com'] }),
    /the Boundary "org" never allows this host/,
  ],
  [
    'a never-address',
    source({ endpoint: 'https://203.0.113.7' }, { neverCidrs: ['203.0.113.0/24'] }),
    /the Boundary "org" never allows this address/,
  ],
  ['an endpoint that is not canonical', source({ endpoint: 'https://127.1' }), /ip_not_allowed/],
  [
    'an endpoint with a user',
    source({ endpoint: 'https://a@b.example.com' }),
    /userinfo_forbidden/,
  ],
  ['a name that is no label', source({}, undefined, `a${'b'.repeat(60)}`), /must be one label/],

  [
    'a host on the never-list',
    rule({}, { boundaries: [boundary('org', { neverHosts: ['*.example.com'] })] }),
    /hosts\[0\]: the Boundary "org" refuses "GET https:\/\/api\.example\.com\/" by `neverHosts`/,
  ],
  [
    'a host beyond the ceiling',
    rule(
      { hosts: ['*.example.com'] },
      { boundaries: [boundary('org', { mayHosts: ['api.example.com'] })] },
    ),
    /refuses "GET https:\/\/any\.example\.com\/" by `mayHosts`/,
  ],
  [
    'a method beyond the ceiling',
    rule({ methods: ['GET', 'POST'] }, { boundaries: [boundary('org', { mayMethods: ['GET'] })] }),
    /methods: the Boundary "org" refuses "POST https:\/\/api\.example\.com\/" by `mayMethods`/,
  ],
  [
    'any method beneath a ceiling',
    rule({ methods: 'any' }, { boundaries: [boundary('org', { mayMethods: ['GET'] })] }),
    /methods: the Boundary "org" refuses "HEAD https:\/\/api\.example\.com\/" by/,
  ],
  [
    'a port on the never-list',
    rule({ ports: [22] }, { boundaries: [boundary('org', { neverPorts: [22] })] }),
    /ports: the Boundary "org" refuses "GET https:\/\/api\.example\.com:22\/" by `neverPorts`/,
  ],
  [
    'a tunnel where none may be',
    documents({
      egressPolicies: [
        egress('one', [{ id: 't', hosts: ['a.example.com'], protocols: ['tunnel'] }]),
      ],
      boundaries: [boundary('org', { mayTunnel: false })],
    }),
    /protocols: the Boundary "org" refuses "CONNECT a\.example\.com:443" by `mayTunnel`/,
  ],
  [
    'a range on the never-list',
    cidrRule('203.0.113.0/25', undefined, { neverCidrs: ['203.0.113.0/24'] }),
    /cidrs: the Boundary "org" refuses "GET https:\/\/203\.0\.113\.0\/" by `neverCidrs`/,
  ],
  [
    'a rate above the ceiling',
    rule({ limits: { rate: '2/s' } }, { boundaries: [boundary('org', { maxRate: '60/min' })] }),
    /limits\.rate: the Boundary "org" allows at most 60\/min/,
  ],
  [
    'no rate beneath a ceiling',
    rule({}, { boundaries: [boundary('org', { maxRate: '60/min' })] }),
    /wants a rate of at most/,
  ],
];
for (const [what, from, expected] of unsound) {
  test(`${what} is a load error`, () => {
    const problems = problemsOf(from);
    assert.ok(
      problems.some((line) => expected.test(line)),
      problems.join('\n') || 'nothing was found',
    );
    assert.throws(() => compilePolicySet(from, 'd'), { code: 'POLICY_INVALID' });
  });
}

test('everything that is wrong is said at once', () => {
  assert.equal(
    problemsOf(rule({ hosts: ['*.com', 'localhost'], paths: ['x'], limits: { burst: 1 } })).length,
    4,
  );
});

function problemsOf(from: PolicyDocuments): string[] {
  return checkDocuments(from).map(
    ({ kind, name, path, message }) => `${kind} ${name} ${formatDocumentPath(path)}: ${message}`,
  );
}
