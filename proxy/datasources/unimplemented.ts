import type { DatasourceType } from '#policies';
import { refused } from '../refusal.ts';
import type { DatasourceAdapter } from './adapter.ts';

/** A type that the policy language has and this proxy does not speak yet: a typed refusal, nothing is dialled. */
export function notInThisVersion(type: DatasourceType): DatasourceAdapter {
  const refuse = (): never => {
    throw refused(
      'UNIMPLEMENTED',
      `datasources of type ${type} are not in this version`,
      'datasource_unsupported',
    );
  };
  return { assertSpoken: refuse, readsBody: () => false, plan: refuse };
}
