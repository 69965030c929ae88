import type { Datasource } from './document.ts';
import { hasExpired } from './match.ts';
import type { PolicySet } from './policy-set.ts';
import type { RoleProjection } from './projection.ts';

/** What may be told of a datasource to whom some rule grants it: no address, no credential. */
export interface ListedDatasource {
  readonly type: Datasource['spec']['type'];
  readonly name: string;
  /** Empty where the document has none. */
  readonly description: string;
}

/** The datasources that some rule of a role grants at `nowMs`, by type and name. */
export function grantedDatasources(
  set: PolicySet,
  { policies }: RoleProjection,
  nowMs: number,
): ListedDatasource[] {
  const granted = new Set(
    policies
      .flatMap(({ allow }) => allow)
      .flatMap(({ datasource, expiresMs }) =>
        datasource && !hasExpired(expiresMs, nowMs)
          ? [`${datasource.type}/${datasource.name}`]
          : [],
      ),
  );
  return [...set.datasources]
    .filter(([key]) => granted.has(key))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { metadata, spec }]) => ({
      type: spec.type,
      name: metadata.name,
      description: metadata.description ?? '',
    }));
}
