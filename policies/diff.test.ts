import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyChange } from './change.ts';
import { diffPolicySets } from './diff.ts';
import type {
  AllowRuleSpec,
  BoundarySpec,
  CredentialBinding,
  DatasourceSpec,
  DenyRuleSpec,
  EgressPolicySpec,
  PolicyDocuments,
  RoleSpec,
} from './document.ts';
import { binding, boundary, datasource, documents, egress, role } from './fixture.ts';
import { compilePolicySet } from './policy-set.ts';

const API: AllowRuleSpec = {
  id: 'api',
  hosts: ['api.example.com'],
  methods: ['GET'],
  paths: ['/v1/**'],
};
const RANGE: AllowRuleSpec = {
  id: 'range',
  cidrs: ['203.0.113.0/24'],
  methods: ['GET'],
  paths: ['/v1/**'],
};
const TUNNEL: AllowRuleSpec = { id: 'tunnel', hosts: ['api.example.com'], protocols: ['tunnel'] };
const WIDE: AllowRuleSpec = { id: 'wide', hosts: ['*.example.com'], methods: 'any', paths: 'any' };

function changes(
  before: Partial<PolicyDocuments>,
  after: Partial<PolicyDocuments>,
): PolicyChange[] {
  const [old, fresh] = [before, after].map((parts) => compilePolicySet(documents(parts), 'd'));
  assert.ok(old && fresh);
  return diffPolicySets(old, fresh);
}

/** `+ allowed GET https://... (rule)`: widening by a plus. */
function lines(found: readonly PolicyChange[]): string[] {
  return found.map(
    ({ widening, change, example, resolve, rule, before, after }) =>
      `${widening ? '+' : '-'} ${change} ${example}${resolve === undefined ? '' : ` at ${resolve}`} (${rule}): ${before} > ${after}`,
  );
}

const one = (
  allow: readonly AllowRuleSpec[],
  deny: readonly DenyRuleSpec[] = [],
  spec: Partial<EgressPolicySpec> = {},
): Partial<PolicyDocuments> => ({ egressPolicies: [egress('p', allow, deny, spec)] });

type Case = readonly [
  what: string,
  before: Partial<PolicyDocuments>,
  after: Partial<PolicyDocuments>,
  lines: readonly string[],
];

const requests: readonly Case[] = [
  ['nothing', one([API]), one([API]), []],
  [
    'a new name for a rule and its policy',
    one([API]),
    { egressPolicies: [egress('q', [{ ...API, id: 'new' }])] },
    [],
  ],
  [
    'one rule as two',
    one([{ ...API, methods: ['GET', 'PUT'] }]),
    one([API, { ...API, id: 'put', methods: ['PUT'] }]),
    [],
  ],
  ['a rule that others held already', one([WIDE]), one([WIDE, API]), []],
  [
    'a deny rule for what nobody allows',
    one([API]),
    one([API], [{ id: 'd', hosts: ['other.example.com'] }]),
    [],
  ],
  [
    'a method more',
    one([API]),
    one([{ ...API, methods: ['GET', 'POST'] }]),
    ['+ allowed POST https://api.example.com/v1 (api): denied > allowed by api'],
  ],
  [
    'a method less',
    one([{ ...API, methods: ['GET', 'POST'] }]),
    one([API]),
    ['- denied POST https://api.example.com/v1 (api): allowed by api > denied'],
  ],
  [
    'a host for another',
    one([API]),
    one([{ ...API, hosts: ['b.example.com'] }]),
    [
      '+ allowed GET https://b.example.com/v1 (api): denied > allowed by api',
      '- denied GET https://api.example.com/v1 (api): allowed by api > denied',
    ],
  ],
  [
    'a host as a wildcard',
    one([API]),
    one([{ ...API, hosts: ['*.example.com'] }]),
    ['+ allowed GET https://any.example.com/v1 (api): denied > allowed by api'],
  ],
  [
    'a star as an open end',
    one([{ ...API, paths: ['/v1/*'] }]),
    one([API]),
    ['+ allowed GET https://api.example.com/v1 (api): denied > allowed by api'],
  ],
  [
    'a query rule less',
    one([{ ...API, query: { n: '[0-9]' } }]),
    one([API]),
    ['+ allowed GET https://api.example.com/v1?n=x (api): denied > allowed by api'],
  ],
  [
    'a protocol more',
    one([API]),
    one([{ ...API, protocols: ['http1', 'http2', 'websocket'] }]),
    ['+ allowed GET https://api.example.com/v1 websocket (api): denied > allowed by api'],
  ],
  [
    'a deny rule less',
    one([WIDE], [{ id: 'd', paths: ['/admin/**'] }]),
    one([WIDE]),
    ['+ allowed GET https://any.example.com/admin (d): denied by d > allowed by wide'],
  ],
  [
    'a deny rule more',
    one([WIDE]),
    one([WIDE], [{ id: 'd', hosts: ['a.example.com'], methods: ['DELETE'] }]),
    ['- denied DELETE https://a.example.com/ (d): allowed by wide > denied by d'],
  ],
  [
    'a deny rule that another holds',
    one(
      [WIDE],
      [
        { id: 'd', paths: ['/a'] },
        { id: 'e', paths: ['/a/**'] },
      ],
    ),
    one([WIDE], [{ id: 'e', paths: ['/a/**'] }]),
    [],
  ],
  [
    'an opaque tunnel',
    one([]),
    one([TUNNEL]),
    ['+ allowed CONNECT api.example.com:443 (tunnel): denied > allowed by tunnel'],
  ],
  [
    'a tunnel that nobody looks into any more',
    one([API, TUNNEL]),
    one([TUNNEL]),
    [
      '+ allowed CONNECT api.example.com:443 (api): looked into by api > allowed by tunnel',
      '- denied GET https://api.example.com/v1 (api): allowed by api > denied',
    ],
  ],
  [
    'a range more',
    one([]),
    one([RANGE]),
    ['+ allowed GET https://203.0.113.0/v1 (range): denied > allowed by range'],
  ],
  [
    'a denied range less',
    one([API], [{ id: 'd', cidrs: ['203.0.113.0/24'] }]),
    one([API]),
    ['+ allowed GET https://api.example.com/v1 at 203.0.113.0 (d): denied by d > allowed by api'],
  ],
  [
    'a rate raised',
    one([{ ...API, limits: { rate: '60/min', burst: 5 } }]),
    one([{ ...API, limits: { rate: '2/s', burst: 2 } }]),
    [
      '+ limits GET https://api.example.com/v1 (api): rate 60/min > rate 2/s',
      '- limits GET https://api.example.com/v1 (api): burst 5 > burst 2',
    ],
  ],
  [
    'a rate in other words',
    one([{ ...API, limits: { rate: '60/min' } }]),
    one([{ ...API, limits: { rate: '1/s', burst: 1 } }]),
    [],
  ],
  [
    'a limit less',
    one([{ ...API, limits: { concurrent: 2 } }]),
    one([API]),
    ['+ limits GET https://api.example.com/v1 (api): concurrent 2 > concurrent unlimited'],
  ],
  [
    'a rule with other limits before the one that was',
    one([WIDE]),
    one([WIDE, { ...API, limits: { concurrent: 1 } }]),
    ['- limits GET https://api.example.com/v1 (api): concurrent unlimited > concurrent 1'],
  ],
  [
    'a rule with other limits behind the one that is',
    one([{ ...API, paths: 'any' }]),
    one([
      { ...API, paths: 'any' },
      { ...API, hosts: ['*.example.com'], id: 'all', limits: { concurrent: 1 } },
    ]),
    ['+ allowed GET https://any.example.com/v1 (all): denied > allowed by all'],
  ],
];

const withKey = (spec: Partial<CredentialBinding['spec']> = {}): Partial<PolicyDocuments> => ({
  ...one([{ ...API, credential: 'key' }]),
  credentialBindings: [binding('key', ['api.example.com'], spec)],
});
const withData = (
  rule: Partial<AllowRuleSpec>,
  spec: Partial<DatasourceSpec> = {},
): Partial<PolicyDocuments> => ({
  ...one([{ id: 'data', datasource: 'prometheus/main', ...rule }]),
  datasources: [datasource('prometheus', 'main', spec)],
});
const withRole = (spec: Partial<RoleSpec>): Partial<PolicyDocuments> => ({
  roles: [{ ...role('analyst'), spec: { ...role('analyst').spec, ...spec } }],
});
const withBoundary = (spec: BoundarySpec): Partial<PolicyDocuments> => ({
  boundaries: [boundary('org', spec)],
});

const others: readonly Case[] = [
  [
    'a credential',
    one([API]),
    withKey(),
    ['+ credential GET https://api.example.com/v1 (api): null > key'],
  ],
  [
    'no credential any more',
    withKey(),
    one([API]),
    ['- credential GET https://api.example.com/v1 (api): key > null'],
  ],
  [
    'another secret',
    withKey(),
    withKey({ secretRef: 'env:OTHER' }),
    ['+ binding CredentialBinding key: spec.secretRef (key): file:key > env:OTHER'],
  ],
  [
    'a header that is not taken away any more',
    withKey({ stripClient: ['x-user'] }),
    withKey(),
    ['+ binding CredentialBinding key: spec.stripClient (key): ["x-user"] > null'],
  ],
  [
    'another endpoint',
    withData({}),
    withData({}, { endpoint: 'https://new.example.com' }),
    [
      '+ datasource Datasource prometheus/main: spec.endpoint (prometheus/main): https://data.example.com > https://new.example.com',
    ],
  ],
  [
    'labels that are not asked for any more',
    withData({ labels: { team: 'a' } }),
    withData({}),
    ['+ guard GET /prometheus/main/ (data): endpoints "any", labels {"team":"a"} > null'],
  ],
  [
    'a label more',
    withData({ labels: { team: 'a' } }),
    withData({ labels: { team: 'a', env: 'x' } }),
    [
      '- guard GET /prometheus/main/ (data): endpoints "any", labels {"team":"a"} > endpoints "any", labels {"env":"x","team":"a"}',
    ],
  ],
  [
    'report mode',
    one([API]),
    one([API], [], { mode: 'report', until: '2030-01-01' }),
    ['+ mode EgressPolicy p: spec.mode (null): enforce > report until 2030-01-01'],
  ],
  [
    'a later end of report mode',
    one([], [], { mode: 'report', until: '2030-01-01' }),
    one([], [], { mode: 'report', until: '2029-01-01' }),
    ['- mode EgressPolicy p: spec.mode (null): report until 2030-01-01 > report until 2029-01-01'],
  ],
  [
    'a later day',
    { egressPolicies: [egress('p', [], [], {}, { expires: '2029-01-01' })] },
    { egressPolicies: [egress('p', [])] },
    ['+ expiry EgressPolicy p: metadata.expires (null): 2029-01-01 > null'],
  ],
  [
    'a budget raised',
    one([API], [], { budgets: [{ id: 'b', per: ['day'], requests: 5 }] }),
    one([API], [], { budgets: [{ id: 'b', per: ['day'], requests: 9 }] }),
    [
      '+ budgets EgressPolicy p: spec.budgets b (null): {"per":["day"],"requests":5} > {"per":["day"],"requests":9}',
    ],
  ],
  [
    'a budget more',
    one([API]),
    one([API], [], { budgets: [{ id: 'b', per: ['day'], bytes: '1MiB' }] }),
    ['- budgets EgressPolicy p: spec.budgets b (null): null > {"bytes":1048576,"per":["day"]}'],
  ],
  [
    'a member more',
    withRole({}),
    withRole({ members: [...role('analyst').spec.members, { group: 'ops' }] }),
    ['+ members Role analyst: spec.members (analyst): null > {"group":"ops"}'],
  ],
  [
    'a narrower member',
    withRole({ members: [{ group: 'ops' }] }),
    withRole({ members: [{ group: 'ops', tenant: 'a' }] }),
    ['- members Role analyst: spec.members (analyst): {"group":"ops"} > null'],
  ],
  [
    'a tool for another',
    withRole({ tools: ['a'] }),
    withRole({ tools: ['b'] }),
    [
      '+ tools Role analyst: spec.tools (analyst): null > b',
      '- tools Role analyst: spec.tools (analyst): a > null',
    ],
  ],
  [
    'a tool with fewer arguments, one with more of them',
    withRole({ tools: ['a', { name: 'b', arguments: { db: 'x' } }] }),
    withRole({
      tools: [
        { name: 'a', arguments: { db: 'x' } },
        { name: 'b', arguments: { db: ['x', 'y'] } },
      ],
    }),
    [
      '+ tools Role analyst: spec.tools (analyst): null > b {"db":["x","y"]}',
      '- tools Role analyst: spec.tools (analyst): a > null',
    ],
  ],
  [
    'more memory, less time',
    withRole({ sandbox: { memory: '1GiB', timeout: '60s' } }),
    withRole({ sandbox: { memory: '2GiB', timeout: '30s' } }),
    [
      '+ sandbox Role analyst: spec.sandbox.memory (analyst): 1073741824 > 2147483648',
      '- sandbox Role analyst: spec.sandbox.timeout (analyst): 60000 > 30000',
    ],
  ],
  [
    'a bound in other words',
    withRole({ sandbox: { memory: '1GiB' } }),
    withRole({ sandbox: { memory: '1024MiB' } }),
    [],
  ],
  [
    'a weaker sandbox',
    withRole({ sandbox: { minimumTier: 'gvisor' } }),
    withRole({ sandbox: { minimumTier: 'container' } }),
    ['+ sandbox Role analyst: spec.sandbox.minimumTier (analyst): gvisor > container'],
  ],
  [
    'packages that are not blocked any more',
    withRole({ sandbox: { dependencies: { managers: ['pip'], block: ['x*'] } } }),
    withRole({ sandbox: { dependencies: { managers: ['pip'], block: ['xy'] } } }),
    [
      '+ sandbox Role analyst: spec.sandbox.dependencies (analyst): {"block":["x*"],"managers":["pip"]} > {"block":["xy"],"managers":["pip"]}',
    ],
  ],
  [
    'a ceiling less',
    withBoundary({ neverHosts: ['*.a.example.com'], mayTunnel: false }),
    withBoundary({ mayTunnel: false }),
    ['+ boundary Boundary org: spec.neverHosts (org): ["*.a.example.com"] > null'],
  ],
  [
    'a ceiling in other words',
    withBoundary({ mayHosts: ['*.example.com', 'a.example.com'] }),
    withBoundary({ mayHosts: ['*.example.com'] }),
    [],
  ],
  [
    'a lower ceiling',
    withBoundary({ maxRate: '60/min' }),
    withBoundary({ maxRate: '30/min' }),
    ['- boundary Boundary org: spec.maxRate (org): "60/min" > "30/min"'],
  ],
  [
    'a consent',
    withBoundary({ mayPrivate: ['10.0.0.0/9'] }),
    withBoundary({ mayPrivate: ['10.0.0.0/8'] }),
    ['+ boundary Boundary org: spec.mayPrivate (org): ["10.0.0.0/9"] > ["10.0.0.0/8"]'],
  ],
  [
    'a range that names may lead to now',
    { ...one([API]), ...withBoundary({ neverCidrs: ['203.0.113.0/24'] }) },
    { ...one([API]), ...withBoundary({ neverPorts: [1] }) },
    [
      '+ boundary Boundary org: spec.neverCidrs (org): ["203.0.113.0/24"] > null',
      '+ allowed GET https://api.example.com/v1 at 203.0.113.0 (boundary:org): denied by boundary:org > allowed by api',
      '- boundary Boundary org: spec.neverPorts (org): null > [1]',
    ],
  ],
];

for (const [what, before, after, expected] of [...requests, ...others])
  test(`${what}: ${expected.length === 0 ? 'no change' : expected.join('; ')}`, () => {
    assert.deepEqual(lines(changes(before, after)), expected);
  });

test('each change says whom it is about; what holds in every tenant is said once', () => {
  const roles = [role('analyst'), role('guest')];
  const found = changes(
    { roles },
    {
      roles,
      egressPolicies: [
        egress('all', [API]),
        egress('acme', [WIDE], [], { subjects: [{ tenant: 'acme' }] }),
        egress('guests', [{ ...TUNNEL, hosts: ['mirror.example.org'] }], [], {
          subjects: [{ role: 'guest', tenant: 'acme' }],
        }),
      ],
    },
  );
  assert.deepEqual(
    found.map(({ subject, phase, policy, rule }) => [
      subject.role,
      subject.tenant,
      phase,
      policy,
      rule,
    ]),
    [
      ['analyst', null, 'run', 'all', 'api'],
      ['analyst', 'acme', 'run', 'acme', 'wide'],
      ['guest', 'acme', 'run', 'acme', 'wide'],
      ['guest', 'acme', 'run', 'guests', 'tunnel'],
    ],
  );
});

test('a policy for installing is about that phase, and a role that may not install has none', () => {
  const installing = {
    ...role('analyst'),
    spec: { ...role('analyst').spec, sandbox: { dependencies: { managers: ['pip'] } } },
  } as const;
  const packages = egress('packages', [TUNNEL], [], { phase: 'install' });
  const found = changes(
    { roles: [installing] },
    { roles: [installing], egressPolicies: [packages] },
  );
  assert.deepEqual(
    found.map(({ phase, example }) => [phase, example]),
    [['install', 'CONNECT api.example.com:443']],
  );
});
