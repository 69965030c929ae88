import type { AllowRuleSpec, Datasource } from '#policies';
import { boundary, datasource, egress } from '../../policies/fixture.ts';

/**
 * A file of policies in which the role `analyst`, which is the local caller's, may ask datasources of this machine, by these rules.
 * `timeout` is of its execs.
 */
export function analystPolicies(
  allow: readonly AllowRuleSpec[],
  datasources: readonly Datasource[],
  timeout = '30m',
): string {
  const documents = [
    {
      apiVersion: 'outrider/v1',
      kind: 'Role',
      metadata: { name: 'analyst' },
      spec: { members: [{ issuer: 'outrider:local' }], sandbox: { timeout } },
    },
    boundary('organisation', { mayLoopbackDatasources: true }),
    egress('analyst', allow),
    ...datasources,
  ];
  return documents.map((one) => `---\n${JSON.stringify(one)}\n`).join('');
}

/** A datasource on loopback at this address, without a credential unless `spec` says otherwise. */
export function loopbackDatasource(
  type: Datasource['spec']['type'],
  name: string,
  endpoint: string,
  spec: Partial<Datasource['spec']> = {},
): Datasource {
  return datasource(type, name, { endpoint, allowLoopback: true, ...spec });
}
