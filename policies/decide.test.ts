import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpuMsOf } from '#core/testing/cpu';
import { decide } from './decide.ts';
import type { PolicyDocuments } from './document.ts';
import { explain } from './explain.ts';
import { binding, boundary, datasource, documents, egress, role } from './fixture.ts';
import { compilePolicySet, projectRole, rolePolicy } from './policy-set.ts';
import { programTarget, requestTarget } from './request-line.ts';
import { compileRole, type RolePolicy } from './role-policy.ts';

const NOW = Date.parse('2026-11-21T12:00:00Z');
const READ = { methods: ['GET', 'HEAD'], paths: 'any' } as const;

const MAIN = documents({
  egressPolicies: [
    egress(
      'main',
      [
        {
          id: 'items',
          hosts: ['api.example.com'],
          methods: ['GET'],
          paths: ['/v1/ok', '/v1/items/*'],
        },
        { id: 'tree', hosts: ['*.wild.example.com'], methods: ['GET', 'POST'], paths: ['/**'] },
        {
          id: 'plain',
          hosts: ['api.example.com'],
          scheme: 'http',
          methods: ['GET'],
          paths: ['/v1/ok'],
        },
        { id: 'high', hosts: ['ports.example.com'], ports: [8443], ...READ },
        { id: 'cred', hosts: ['cred.example.com'], ...READ, credential: 'token' },
        { id: 'also-cred', hosts: ['cred.example.com'], methods: 'any', paths: 'any' },
        { id: 'opaque', hosts: ['tunnel.example.com'], protocols: ['tunnel'] },
        { id: 'wide-opaque', hosts: ['*.mixed.example.com'], protocols: ['tunnel'] },
        { id: 'seen', hosts: ['api.mixed.example.com'], ...READ },
        { id: 'net', cidrs: ['203.0.113.0/24'], ...READ },
        {
          id: 'paged',
          hosts: ['query.example.com'],
          ...READ,
          query: { page: '[0-9]{1,3}', scope: 'read' },
        },
        {
          id: 'strict',
          hosts: ['strict.example.com'],
          ...READ,
          query: { page: '[0-9]+' },
          queryStrict: true,
        },
        {
          id: 'socket',
          hosts: ['live.example.com'],
          methods: ['GET'],
          paths: ['/socket'],
          protocols: ['websocket'],
        },
        {
          id: 'call',
          hosts: ['rpc.example.com'],
          methods: ['POST'],
          paths: ['/pkg.Service/*'],
          protocols: ['grpc'],
        },
        { id: 'only2', hosts: ['only2.example.com'], ...READ, protocols: ['http2'] },
        {
          id: 'metrics',
          datasource: 'prometheus/main',
          methods: ['GET', 'POST'],
          paths: ['/api/v1/query'],
        },
        { id: 'logs', datasource: 'loki/main' },
      ],
      [
        { id: 'no-evil', hosts: ['evil.wild.example.com', '*.evil.wild.example.com'] },
        { id: 'no-secrets', hosts: ['*.wild.example.com'], paths: ['/secrets/**'] },
        { id: 'no-writes', hosts: ['ro.wild.example.com'], methods: ['POST'] },
        { id: 'no-one', cidrs: ['203.0.113.13/32'] },
        { id: 'no-gists', hosts: ['tunnel.example.com'], paths: ['/gists/**'], ports: [8443] },
        { id: 'no-delete', datasource: 'loki/main', paths: ['/loki/api/v1/delete'] },
      ],
    ),
  ],
  credentialBindings: [binding('token', ['cred.example.com'])],
  datasources: [datasource('prometheus', 'main'), datasource('loki', 'main')],
});

const cases = [
  ['GET https://api.example.com/v1/ok', 'allow items'],
  ['GET https://API.Example.COM./v1/ok', 'allow items'],
  ['GET https://api.example.com/v1/items/7', 'allow items'],
  ['GET http://api.example.com/v1/ok', 'allow plain'],
  ['GET http://api.example.com:443/v1/ok', 'deny scheme_not_allowed'],
  ['GET https://api.example.com/v1/items', 'deny path_not_allowed'],
  ['GET https://api.example.com/v1/ok/', 'deny path_not_allowed'],
  ['GET https://api.example.com/V1/OK', 'deny path_not_allowed'],
  ['POST https://api.example.com/v1/ok', 'deny method_not_allowed'],
  ['GET https://api.example.com:8443/v1/ok', 'deny port_not_allowed'],
  ['GET https://example.com/v1/ok', 'deny host_not_allowed'],
  ['GET https://x.api.example.com/v1/ok', 'deny host_not_allowed'],
  ['GET https://a.wild.example.com/x', 'allow tree'],
  ['GET https://a.b.wild.example.com/x', 'allow tree'],
  ['GET https://wild.example.com/x', 'deny host_not_allowed'],
  ['GET https://evilwild.example.com/x', 'deny host_not_allowed'],
  ['GET https://evil.wild.example.com/x', 'deny host_denied no-evil'],
  ['GET https://EVIL.wild.example.com/x', 'deny host_denied no-evil'],
  ['GET https://a.evil.wild.example.com/x', 'deny host_denied no-evil'],
  ['GET https://a.wild.example.com/secrets', 'deny path_not_allowed no-secrets'],
  ['GET https://a.wild.example.com/secrets/a/b', 'deny path_not_allowed no-secrets'],
  ['GET https://a.wild.example.com/secretsx', 'allow tree'],
  ['POST https://ro.wild.example.com/x', 'deny method_not_allowed no-writes'],
  ['GET https://ro.wild.example.com/x', 'allow tree'],
  ['GET https://ports.example.com:8443/', 'allow high'],
  ['GET https://ports.example.com/', 'deny port_not_allowed'],
  ['GET https://cred.example.com/', 'allow cred token'],
  ['DELETE https://cred.example.com/', 'allow also-cred'],
  // Tunnels.
  ['CONNECT tunnel.example.com:443', 'allow opaque'],
  ['GET https://tunnel.example.com/gists/1', 'allow opaque'],
  ['CONNECT tunnel.example.com:80', 'deny port_not_allowed'],
  ['GET http://tunnel.example.com/', 'deny port_not_allowed'],
  ['CONNECT api.example.com:443', 'allow items intercept'],
  ['CONNECT api.example.com:80', 'deny connect_not_allowed'],
  ['CONNECT any.mixed.example.com:443', 'allow wide-opaque'],
  ['CONNECT api.mixed.example.com:443', 'allow seen intercept'],
  ['POST https://api.mixed.example.com/', 'deny method_not_allowed'],
  ['CONNECT evil.wild.example.com:443', 'deny host_denied no-evil'],
  ['CONNECT a.wild.example.com:443', 'allow tree intercept'],
  // Addresses.
  ['GET https://203.0.113.7/', 'allow net'],
  ['GET https://203.0.113.13/', 'deny ip_not_allowed no-one'],
  ['POST https://203.0.113.7/', 'deny method_not_allowed'],
  ['GET https://203.0.113.7:444/', 'deny ip_not_allowed'],
  ['GET https://198.51.100.1/', 'deny ip_not_allowed'],
  ['CONNECT 10.0.0.1:443', 'deny ip_forbidden_class'],
  ['CONNECT 127.0.0.1:443', 'deny ip_forbidden_class'],
  ['CONNECT [::1]:443', 'deny ip_forbidden_class'],
  ['CONNECT [fd00::1]:443', 'deny ip_forbidden_class'],
  ['CONNECT 169.254.169.254:80', 'deny ip_forbidden_class'],
  ['CONNECT 240.0.0.1:443', 'deny ip_forbidden_class'],
  ['CONNECT localhost:443', 'deny ip_forbidden_class'],
  ['CONNECT foo.localhost.:443', 'deny ip_forbidden_class'],
  ['GET http://metadata.google.internal/computeMetadata/v1/', 'deny host_denied'],
  // Queries.
  ['GET https://query.example.com/', 'allow paged'],
  ['GET https://query.example.com/?page=12&scope=read&other=1', 'allow paged'],
  ['GET https://query.example.com/?page=1234', 'deny query_not_allowed'],
  ['GET https://query.example.com/?scope=read&scope=admin', 'deny query_not_allowed'],
  ['GET https://query.example.com/?sc%6Fpe=admin', 'deny query_not_allowed'],
  ['GET https://query.example.com/?scope=adm%69n', 'deny query_not_allowed'],
  ['GET https://query.example.com/?x=1;scope=admin', 'deny query_not_allowed'],
  ['GET https://query.example.com/?scope=%zz', 'deny query_not_allowed'],
  ['GET https://query.example.com/?scope', 'deny query_not_allowed'],
  ['GET https://strict.example.com/?page=1', 'allow strict'],
  ['GET https://strict.example.com/?page=1&x=1', 'deny query_not_allowed'],
  ['GET https://strict.example.com/?', 'allow strict'],
  // Protocols.
  ['GET https://api.example.com/v1/ok http2', 'allow items'],
  ['GET https://api.example.com/v1/ok websocket', 'deny protocol_not_allowed'],
  ['POST https://a.wild.example.com/pkg.Service/Call grpc', 'deny protocol_not_allowed'],
  ['GET https://live.example.com/socket websocket', 'allow socket'],
  ['GET https://live.example.com/socket', 'deny protocol_not_allowed'],
  ['GET https://live.example.com/other websocket', 'deny path_not_allowed'],
  ['POST https://rpc.example.com/pkg.Service/Call grpc', 'allow call'],
  ['POST https://rpc.example.com/pkg.Service/Call http2', 'deny protocol_not_allowed'],
  ['GET https://only2.example.com/', 'deny protocol_not_allowed'],
  ['GET https://only2.example.com/ http2', 'allow only2'],
  ['CONNECT live.example.com:443', 'allow socket intercept'],
  // Datasources.
  ['GET /prometheus/main/api/v1/query?query=up', 'allow metrics'],
  ['GET http://prometheus-main.outrider.internal/api/v1/query', 'allow metrics'],
  ['GET /prometheus/main/api/v1/admin', 'deny path_not_allowed'],
  ['DELETE /prometheus/main/api/v1/query', 'deny method_not_allowed'],
  ['GET /prometheus/other/api/v1/query', 'deny alias_unknown'],
  ['GET /loki/main/loki/api/v1/query', 'allow logs'],
  ['POST /loki/main/loki/api/v1/delete', 'deny path_not_allowed no-delete'],
] as const;

const main = policyOf(MAIN);
for (const [request, expected] of cases) {
  test(`${expected}: ${request}`, () => assert.equal(verdict(main, request), expected));
}

test('what is explained is what is decided, and a rule that applies says so', () => {
  for (const [request] of cases) {
    const canonical = requestTarget(request);
    assert.ok(canonical.ok, request);
    const target = programTarget(main, canonical.target, NOW);
    const { decision, rules } = explain(main, target, NOW);
    assert.deepEqual(decision, decide(main, target, NOW));
    const denied = rules.some(({ effect, applies }) => effect === 'deny' && applies);
    const allowed = rules.some(({ effect, applies }) => effect === 'allow' && applies);
    if (decision.verdict === 'allow') assert.ok(allowed && !denied, request);
    else if (decision.rule !== null) assert.ok(denied, request);
    else
      assert.ok(
        !allowed || ['ip_forbidden_class', 'host_denied'].includes(decision.reason),
        request,
      );
  }
});

test('deny beats allow across policies, whatever their names', () => {
  for (const [first, second] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    const allow = egress(first, [{ id: 'yes', hosts: ['api.example.com'], ...READ }]);
    const deny = egress(second, [], [{ id: 'no', hosts: ['api.example.com'], paths: ['/x'] }]);
    const policy = policyOf(documents({ egressPolicies: [allow, deny] }));
    assert.equal(verdict(policy, 'GET https://api.example.com/x'), 'deny path_not_allowed no');
    assert.equal(verdict(policy, 'GET https://api.example.com/y'), 'allow yes');
  }
});

test('an opaque tunnel is refused where a deny rule would have to look inside it', () => {
  const opaque = egress('a', [{ id: 'opaque', hosts: ['api.example.com'], protocols: ['tunnel'] }]);
  const deny = egress(
    'b',
    [],
    [{ id: 'no-gists', hosts: ['api.example.com'], paths: ['/gists/**'] }],
  );
  assert.equal(
    verdict(policyOf(documents({ egressPolicies: [opaque, deny] })), 'CONNECT api.example.com:443'),
    'deny host_denied no-gists',
  );
  assert.equal(
    verdict(policyOf(documents({ egressPolicies: [opaque] })), 'CONNECT api.example.com:443'),
    'allow opaque',
  );
});

test('a deny rule that names only a method holds everywhere, datasources included', () => {
  const allow = egress(
    'a',
    [
      { id: 'all', hosts: ['*.example.com'], methods: 'any', paths: 'any' },
      { id: 'logs', datasource: 'loki/main' },
    ],
    [{ id: 'no-delete', methods: ['DELETE'] }],
  );
  const policy = policyOf(
    documents({ egressPolicies: [allow], datasources: [datasource('loki', 'main')] }),
  );
  assert.equal(
    verdict(policy, 'DELETE https://a.example.com/'),
    'deny method_not_allowed no-delete',
  );
  assert.equal(verdict(policy, 'DELETE /loki/main/x'), 'deny method_not_allowed no-delete');
  assert.equal(verdict(policy, 'GET https://a.example.com/'), 'allow all');
  assert.equal(verdict(policy, 'CONNECT a.example.com:443'), 'allow all intercept');
});

test('a policy without rules denies everything, and so does a role without a policy', () => {
  const empty = policyOf(documents({ egressPolicies: [egress('empty', [])] }));
  assert.equal(verdict(empty, 'GET https://api.example.com/'), 'deny host_not_allowed');
  assert.equal(verdict(policyOf(documents()), 'GET https://api.example.com/'), 'deny no_policy');
  const unknown = compileRole(projectRole(compilePolicySet(MAIN, 'd'), 'nobody', ''));
  assert.equal(verdict(unknown, 'GET https://api.example.com/v1/ok'), 'deny no_policy');
});

test('a policy is for the role or the tenant that it names', () => {
  const rule = { id: 'yes', hosts: ['api.example.com'], ...READ };
  const set = compilePolicySet(
    documents({
      roles: [role('analyst'), role('other')],
      egressPolicies: [
        egress('one', [rule], [], {
          subjects: [{ role: 'analyst', tenant: 'acme' }, { tenant: 'zeta' }],
        }),
      ],
    }),
    'd',
  );
  const at = (name: string, tenant: string) =>
    verdict(rolePolicy(set, name, tenant), 'GET https://api.example.com/');
  assert.equal(at('analyst', 'acme'), 'allow yes');
  assert.equal(at('analyst', 'other'), 'deny no_policy');
  assert.equal(at('other', 'acme'), 'deny no_policy');
  assert.equal(at('other', 'zeta'), 'allow yes');
});

const expiries = [
  ['the policy', { policy: '2026-11-20' }, 'deny policy_expired'],
  ['the policy, on its last day', { policy: '2026-11-21' }, 'allow yes token'],
  ['the role', { role: '2026-11-20' }, 'deny policy_expired'],
  ['the credential', { credential: '2026-11-20' }, 'deny policy_expired'],
  ['nothing', {}, 'allow yes token'],
] as const;
for (const [what, when, expected] of expiries) {
  test(`${what} has expired: ${expected}`, () => {
    const {
      policy,
      role: roleDay,
      credential,
    }: { policy?: string; role?: string; credential?: string } = when;
    const on = (expires: string | undefined) => (expires === undefined ? {} : { expires });
    const compiled = policyOf(
      documents({
        roles: [role('analyst', on(roleDay))],
        egressPolicies: [
          egress(
            'one',
            [{ id: 'yes', hosts: ['api.example.com'], ...READ, credential: 'token' }],
            [],
            {},
            on(policy),
          ),
        ],
        credentialBindings: [binding('token', ['api.example.com'], {}, on(credential))],
      }),
    );
    assert.equal(verdict(compiled, 'GET https://api.example.com/'), expected);
  });
}

test('an expired policy keeps its deny rules', () => {
  const old = egress(
    'old',
    [],
    [{ id: 'no', hosts: ['api.example.com'] }],
    {},
    { expires: '2020-01-01' },
  );
  const now = egress('now', [{ id: 'yes', hosts: ['*.example.com'], ...READ }]);
  assert.equal(
    verdict(policyOf(documents({ egressPolicies: [old, now] })), 'GET https://api.example.com/'),
    'deny host_denied no',
  );
});

test('an expired datasource is refused', () => {
  const rule = { id: 'logs', datasource: 'loki/main' };
  const at = (expires: string) =>
    policyOf(
      documents({
        egressPolicies: [egress('one', [rule])],
        datasources: [datasource('loki', 'main', {}, { expires })],
      }),
    );
  assert.equal(verdict(at('2026-11-20'), 'GET /loki/main/x'), 'deny policy_expired');
  assert.equal(verdict(at('2026-11-21'), 'GET /loki/main/x'), 'allow logs');
});

test('report mode lets through what no rule allows, says so, and ends with its last day', () => {
  const reporting = (until: string, deny = true) =>
    policyOf(
      documents({
        egressPolicies: [
          egress(
            'one',
            [{ id: 'yes', hosts: ['api.example.com'], ...READ }],
            deny ? [{ id: 'no', hosts: ['no.example.com'] }] : [],
            { mode: 'report', until },
          ),
          egress('two', [], [{ id: 'never', hosts: ['never.example.com'], paths: ['/x'] }]),
        ],
      }),
    );
  const on = reporting('2026-11-21');
  const off = reporting('2026-11-20');
  assert.equal(verdict(on, 'GET https://api.example.com/'), 'allow yes');
  assert.equal(
    verdict(on, 'GET https://other.example.com/'),
    'allow report reported host_not_allowed',
  );
  assert.equal(
    verdict(on, 'GET https://no.example.com/'),
    'allow report reported host_not_allowed',
  );
  assert.equal(
    verdict(on, 'POST http://api.example.com/'),
    'allow report reported port_not_allowed',
  );
  assert.equal(
    verdict(on, 'CONNECT never.example.com:443'),
    'deny host_denied never',
    'an enforced policy stays enforced',
  );
  assert.equal(verdict(on, 'GET http://never.example.com/x'), 'deny path_not_allowed never');
  assert.equal(verdict(on, 'CONNECT 10.0.0.1:443'), 'deny ip_forbidden_class');
  assert.equal(verdict(on, 'GET /loki/main/x'), 'deny alias_unknown', 'a datasource is a grant');
  assert.equal(verdict(off, 'GET https://api.example.com/'), 'allow yes');
  assert.equal(verdict(off, 'GET https://other.example.com/'), 'deny host_not_allowed');
  assert.equal(verdict(off, 'GET https://no.example.com/'), 'deny host_denied no');
});

test('a policy that has expired opens nothing, be it to report it; its deny rules are enforced then', () => {
  const report = (expires: string) =>
    policyOf(
      documents({
        egressPolicies: [
          egress(
            'one',
            [],
            [{ id: 'no', hosts: ['no.example.com'] }],
            { mode: 'report', until: '2026-12-01' },
            { expires },
          ),
          egress('two', [{ id: 'yes', hosts: ['no.example.com'], ...READ }]),
        ],
      }),
    );
  const [alive, over] = [report('2026-11-30'), report('2026-11-20')];
  const open = 'allow report reported host_not_allowed';
  assert.equal(verdict(alive, 'GET https://other.example.com/'), open);
  assert.equal(verdict(over, 'GET https://other.example.com/'), 'deny host_not_allowed');
  assert.equal(verdict(over, 'GET https://no.example.com/'), 'deny host_denied no');
});

test('a deny rule that is only reported is reported on what is allowed, too', () => {
  const policy = policyOf(
    documents({
      egressPolicies: [
        egress('one', [], [{ id: 'soon', hosts: ['api.example.com'] }], {
          mode: 'report',
          until: '2026-12-01',
        }),
        egress('two', [{ id: 'yes', hosts: ['api.example.com'], ...READ }]),
      ],
    }),
  );
  assert.equal(
    verdict(policy, 'GET http://api.example.com/'),
    'allow report reported port_not_allowed',
  );
  assert.equal(
    verdict(policy, 'GET https://api.example.com/'),
    'allow yes reported host_denied soon',
  );
});

test('a Boundary refuses whatever a policy allows', () => {
  const rules = [
    { id: 'wide', hosts: ['*.example.com'], ports: [443, 8443], ...READ },
    { id: 'opaque', hosts: ['tunnel.example.com'], protocols: ['tunnel'] as const },
    { id: 'net', cidrs: ['203.0.113.0/24'], ...READ },
    { id: 'lan', cidrs: ['10.0.0.0/24'], allowPrivate: true, ...READ },
  ];
  const bounds = boundary('org', {
    neverHosts: ['never.example.com'],
    neverCidrs: ['203.0.113.8/29'],
    neverPorts: [22],
    mayPrivate: ['10.0.0.0/16'],
  });
  // Both are load errors together, so each is projected for itself.
  const { boundaries } = projectRole(
    compilePolicySet(documents({ boundaries: [bounds] }), 'd'),
    'analyst',
    '',
  );
  const consenting = boundary('consent', { mayPrivate: ['10.0.0.0/16'] });
  const set = documents({ egressPolicies: [egress('one', rules)], boundaries: [consenting] });
  const policy = compileRole({
    ...projectRole(compilePolicySet(set, 'd'), 'analyst', ''),
    boundaries,
  });
  assert.equal(verdict(policy, 'GET https://ok.example.com/'), 'allow wide');
  assert.equal(verdict(policy, 'GET https://never.example.com/'), 'deny host_denied boundary:org');
  assert.equal(verdict(policy, 'CONNECT never.example.com:443'), 'deny host_denied boundary:org');
  assert.equal(
    verdict(policy, 'CONNECT ok.example.com:22'),
    'deny port_forbidden_class boundary:org',
  );
  assert.equal(verdict(policy, 'GET https://203.0.113.7/'), 'allow net');
  assert.equal(verdict(policy, 'GET https://203.0.113.9/'), 'deny ip_forbidden_class boundary:org');
  assert.equal(verdict(policy, 'GET https://10.0.0.7/'), 'allow lan');
  assert.equal(verdict(policy, 'GET https://10.0.1.7/'), 'deny ip_not_allowed');
  assert.equal(verdict(policy, 'GET https://10.1.0.7/'), 'deny ip_not_allowed boundary:org');
  assert.equal(verdict(policy, 'GET https://127.0.0.1/'), 'deny ip_forbidden_class');
});

test('ceilings hold at the decision, too, whatever passed the load', () => {
  const projection = projectRole(compilePolicySet(MAIN, 'd'), 'analyst', '');
  const under = (ceiling: object) => {
    const none = {
      name: 'org',
      neverHosts: [],
      neverCidrs: [],
      neverPorts: [],
      mayHosts: null,
      mayMethods: null,
      mayTunnel: true,
      mayPrivate: [],
    };
    return compileRole({ ...projection, boundaries: [{ ...none, ...ceiling }] });
  };
  assert.equal(verdict(under({}), 'GET https://api.example.com/v1/ok'), 'allow items');
  assert.equal(
    verdict(under({ mayHosts: ['*.wild.example.com'] }), 'GET https://api.example.com/v1/ok'),
    'deny host_not_allowed boundary:org',
  );
  assert.equal(
    verdict(under({ mayHosts: ['*.wild.example.com'] }), 'GET https://203.0.113.7/'),
    'deny ip_not_allowed boundary:org',
  );
  assert.equal(
    verdict(under({ mayMethods: ['POST'] }), 'GET https://api.example.com/v1/ok'),
    'deny method_not_allowed boundary:org',
  );
  assert.equal(
    verdict(under({ mayMethods: ['POST'] }), 'GET /prometheus/main/api/v1/query'),
    'deny method_not_allowed boundary:org',
  );
  assert.equal(
    verdict(under({ mayTunnel: false }), 'CONNECT tunnel.example.com:443'),
    'deny connect_not_allowed boundary:org',
  );
  assert.equal(
    verdict(under({ mayTunnel: false }), 'CONNECT api.example.com:443'),
    'allow items intercept',
  );
});

test('a decision costs hardly more under 10 000 rules than under 10', async () => {
  const perDecision = async (rules: number) => {
    const allow = Array.from({ length: rules }, (_, i) => ({
      id: `r${i}`,
      hosts: [`h${i}.example.com`, `*.w${i}.example.com`],
      methods: ['GET'] as const,
      paths: ['/v1/*', '/v2/**'],
    }));
    const policy = policyOf(documents({ egressPolicies: [egress('big', allow)] }));
    const targets = [
      'GET https://h7.example.com/v1/x',
      'GET https://a.w9.example.com/v2/x/y',
      'GET https://no.example.com/',
    ].map((text) => {
      const canonical = requestTarget(text);
      assert.ok(canonical.ok);
      return canonical.target;
    });
    // Of the processor and not of the clock, and the least of several: what else the machine does costs neither.
    const decideMany = () => {
      for (let i = 0; i < 10_000; i++) for (const target of targets) decide(policy, target, NOW);
    };
    const runs = [];
    for (let run = 0; run < 5; run++) runs.push(await cpuMsOf(decideMany));
    return (Math.min(...runs) * 1_000) / (10_000 * targets.length);
  };
  const [few, many] = [await perDecision(10), await perDecision(10_000)];
  // Looking at each rule would cost a thousand times as much.
  assert.ok(many < few * 50, `${few} µs under 10 rules, ${many} µs under 10 000`);
});

function policyOf(from: PolicyDocuments): RolePolicy {
  return rolePolicy(compilePolicySet(from, 'digest'), 'analyst', '');
}

/** As a program meets it, in words: `allow <rule> [credential] [intercept] [reported ...]` or `deny <reason> [rule]`. */
function verdict(policy: RolePolicy, request: string): string {
  const canonical = requestTarget(request);
  if (!canonical.ok) return `malformed ${canonical.reason}`;
  const decision = decide(policy, programTarget(policy, canonical.target, NOW), NOW);
  if (decision.verdict === 'deny')
    return ['deny', decision.reason, decision.rule].filter(Boolean).join(' ');
  const { rule, credential, intercept, reported } = decision;
  return [
    'allow',
    rule,
    credential,
    intercept && 'intercept',
    ...(reported ? ['reported', reported.reason, reported.rule] : []),
  ]
    .filter(Boolean)
    .join(' ');
}
