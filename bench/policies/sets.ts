import type {
  AllowRuleSpec,
  Boundary,
  CredentialBinding,
  DenyRuleSpec,
  EgressPolicy,
  PolicyDocuments,
  Role,
} from '#policies';

/** A set of policies with as many rules as one likes, and requests about them as PolicyTests write them. */
export interface Shape {
  readonly name: string;
  readonly documents: (rules: number) => PolicyDocuments;
  /** Some that a rule allows and some that none does, about rules all over the set. */
  readonly requests: (rules: number) => readonly string[];
}

const V1 = 'outrider/v1';
const READ = { methods: ['GET', 'HEAD'] } as const;

const analyst: Role = {
  apiVersion: V1,
  kind: 'Role',
  metadata: { name: 'analyst' },
  spec: { members: [{ issuer: 'https://login.example.com', group: 'data' }], sandbox: {} },
};

const ceiling: Boundary = {
  apiVersion: V1,
  kind: 'Boundary',
  metadata: { name: 'acme' },
  spec: { neverHosts: ['*.corp.internal.test'], neverPorts: [22, 25] },
};

function policy(allow: readonly AllowRuleSpec[], deny: readonly DenyRuleSpec[]): EgressPolicy {
  return {
    apiVersion: V1,
    kind: 'EgressPolicy',
    metadata: { name: 'bench' },
    spec: { subjects: [{ role: 'analyst' }], mode: 'enforce', allow, deny },
  };
}

function documents(
  allow: readonly AllowRuleSpec[],
  deny: readonly DenyRuleSpec[] = [],
  credentialBindings: readonly CredentialBinding[] = [],
): PolicyDocuments {
  return {
    roles: [analyst],
    egressPolicies: [policy(allow, deny)],
    credentialBindings,
    datasources: [],
    boundaries: [ceiling],
    tests: [],
  };
}

function times<T>(count: number, make: (i: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i));
}

/** Indexes all over a set, so that no cache helps. */
function spread(rules: number): number[] {
  return times(64, (i) => (i * 7_919 + 13) % rules);
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;

/** What a rule set is in practice, and the ways in which one can be hard. */
export const SHAPES: readonly Shape[] = [
  {
    name: 'hosts',
    documents: (rules) =>
      documents(
        times(rules, (i) => ({
          id: `r${i}`,
          hosts: [`api${i}.team${i % 97}.example.com`],
          ...READ,
          paths: [`/v1/items/*`, `/v1/team-${i}/**`],
          limits: { rate: '60/min' },
        })),
        [{ id: 'no-admin', hosts: ['*.example.com'], paths: ['/admin/**'] }],
      ),
    requests: (rules) =>
      spread(rules).flatMap((i) => [
        `GET https://api${i}.team${i % 97}.example.com/v1/items/7?page=2`,
        `CONNECT api${i}.team${i % 97}.example.com:443`,
        `POST https://api${i}.team${i % 97}.example.com/v1/items/7`,
        `GET https://api${i}.team${i % 97}.example.com/admin/x`,
        `GET https://none${i}.example.com/v1/items/7`,
      ]),
  },
  {
    name: 'one host',
    documents: (rules) =>
      documents(
        times(rules, (i) => ({
          id: `r${i}`,
          hosts: ['api.example.com'],
          methods: [METHODS[i % METHODS.length] ?? 'GET'],
          paths: [`/v1/projects/p${Math.floor(i / METHODS.length)}/*/files/**`],
        })),
      ),
    requests: (rules) =>
      spread(rules).flatMap((i) => [
        `${METHODS[i % METHODS.length] ?? 'GET'} https://api.example.com/v1/projects/p${Math.floor(i / METHODS.length)}/x/files/a/b`,
        `GET https://api.example.com/v1/projects/q${i}/x/files/a`,
        'CONNECT api.example.com:443',
      ]),
  },
  {
    name: 'wildcards',
    documents: (rules) =>
      documents(
        times(rules, (i) => ({
          id: `r${i}`,
          hosts: [`*.team${i}.example.com`],
          ...READ,
          paths: 'any',
        })),
      ),
    requests: (rules) =>
      spread(rules).flatMap((i) => [
        `GET https://a.b.team${i}.example.com/x/y`,
        `GET https://a.b.none${i}.example.com/x/y`,
        `CONNECT deep.a.b.c.d.e.team${i}.example.com:443`,
      ]),
  },
  {
    name: 'denials',
    documents: (rules) =>
      documents(
        [{ id: 'all', hosts: ['*.example.com'], methods: 'any', paths: 'any' }],
        times(rules, (i) => ({
          id: `d${i}`,
          ...(i % 2 === 0 ? { hosts: [`host${i}.example.com`] } : { hosts: ['*.example.com'] }),
          paths: [`/secret/s${i}/**`],
        })),
      ),
    requests: (rules) =>
      spread(rules).flatMap((i) => [
        `GET https://host${i}.example.com/open`,
        `GET https://host${i}.example.com/secret/s${i}/x`,
        `CONNECT host${i}.example.com:443`,
      ]),
  },
  {
    name: 'ranges',
    documents: (rules) =>
      documents(
        times(rules / 2, (i) => ({
          id: `r${i}`,
          cidrs: [`203.${i >> 8}.${i & 255}.0/24`],
          ...READ,
          paths: ['/v1/**'],
        })),
        times(rules / 2, (i) => ({ id: `d${i}`, cidrs: [`203.${i >> 8}.${i & 255}.128/25`] })),
      ),
    requests: (rules) =>
      spread(rules / 2).flatMap((i) => [
        `GET https://203.${i >> 8}.${i & 255}.7/v1/x`,
        `GET https://203.${i >> 8}.${i & 255}.200/v1/x`,
        `CONNECT 203.${i >> 8}.${i & 255}.7:443`,
        `GET https://198.51.100.${i & 255}/v1/x`,
      ]),
  },
];
