import { originForm } from '#policies';
import { endpointOf } from '../endpoint.ts';
import { refused } from '../refusal.ts';
import type { DatasourceAdapter, PlannedCall } from './adapter.ts';
import { authOf } from './auth.ts';

/** Any HTTP API behind its endpoint's base path. Methods and paths are the policy's to allow. */
export const http: DatasourceAdapter = {
  body: () => 'goes',
  // Of two parameters of one name servers choose either.
  assertHead({ spec: { auth }, target }) {
    if (auth.type !== 'query') return;
    const ours = auth.name.toLowerCase();
    const theirs = [...new URLSearchParams(target.query ?? '').keys()];
    if (theirs.some((name) => name.toLowerCase() === ours))
      throw refused(
        'EGRESS_DENIED',
        'the query has the parameter that carries the credential',
        'query_not_allowed',
      );
  },
  plan: (call) => ({
    path: underBase(call.spec.endpoint, originForm({ ...call.target, query: queryOf(call) })),
    ...authOf(call),
  }),
};

/** The endpoint's path, without a slash at its end, and the caller's behind it. The caller's is canonical: it cannot climb. */
export function underBase(endpoint: string, path: string): string {
  return `${endpointOf(endpoint).basePath}${path}`;
}

/** With a credential that is a parameter behind the caller's. */
function queryOf({ spec: { auth }, target: { query }, secret }: PlannedCall): string | null {
  if (auth.type !== 'query' || secret === undefined) return query;
  const ours = `${encodeURIComponent(auth.name)}=${encodeURIComponent(secret)}`;
  return query === null || query === '' ? ours : `${query}&${ours}`;
}
