import type { Caller } from './authority.ts';

/** What a caller may know of a datasource: no address, no credential. */
export interface ListedDatasource {
  readonly type: string;
  readonly name: string;
  readonly description: string;
}

/** The datasources that some rule of the caller's role grants now, by type and name. */
export function listDatasources({ policy, set }: Caller, nowMs: number): ListedDatasource[] {
  const granted = new Set(
    policy.allow.flatMap(({ source: { datasource, expiresMs } }) =>
      datasource && (expiresMs === null || nowMs < expiresMs)
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
