import type {
  AllowRuleSpec,
  Boundary,
  BoundarySpec,
  CredentialBinding,
  Datasource,
  DatasourceSpec,
  DenyRuleSpec,
  EgressPolicy,
  EgressPolicySpec,
  Metadata,
  PolicyDocuments,
  Role,
} from './document.ts';

/** Documents for tests, written as short as a test's table wants them. The product does not import this file. */

const V1 = 'outrider/v1';

export function role(name: string, metadata: Partial<Metadata> = {}): Role {
  const members = [{ issuer: 'https://idp.example.com', group: name }];
  return {
    apiVersion: V1,
    kind: 'Role',
    metadata: { name, ...metadata },
    spec: { members, sandbox: {} },
  };
}

export function egress(
  name: string,
  allow: readonly AllowRuleSpec[],
  deny: readonly DenyRuleSpec[] = [],
  spec: Partial<EgressPolicySpec> = {},
  metadata: Partial<Metadata> = {},
): EgressPolicy {
  return {
    apiVersion: V1,
    kind: 'EgressPolicy',
    metadata: { name, ...metadata },
    spec: { subjects: [{ role: 'analyst' }], mode: 'enforce', allow, deny, ...spec },
  };
}

export function binding(
  name: string,
  hosts: readonly string[],
  spec: Partial<CredentialBinding['spec']> = {},
  metadata: Partial<Metadata> = {},
): CredentialBinding {
  const inject = { header: 'authorization', format: 'Bearer {secret}' };
  return {
    apiVersion: V1,
    kind: 'CredentialBinding',
    metadata: { name, ...metadata },
    spec: { secretRef: `file:${name}`, hosts, inject, ...spec },
  };
}

export function datasource(
  type: DatasourceSpec['type'],
  name: string,
  spec: Partial<DatasourceSpec> = {},
  metadata: Partial<Metadata> = {},
): Datasource {
  return {
    apiVersion: V1,
    kind: 'Datasource',
    metadata: { name, ...metadata },
    spec: { type, endpoint: 'https://data.example.com', auth: { type: 'none' }, ...spec },
  };
}

export function boundary(name: string, spec: BoundarySpec): Boundary {
  return { apiVersion: V1, kind: 'Boundary', metadata: { name }, spec };
}

export function documents(parts: Partial<PolicyDocuments> = {}): PolicyDocuments {
  return {
    roles: [role('analyst')],
    egressPolicies: [],
    credentialBindings: [],
    datasources: [],
    boundaries: [],
    tests: [],
    ...parts,
  };
}
