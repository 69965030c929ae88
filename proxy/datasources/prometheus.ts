import { type DatasourceTarget, originForm } from '#policies';
import { refused } from '../refusal.ts';
import type { DatasourceAdapter } from './adapter.ts';
import { authOf } from './auth.ts';
import { underBase } from './http.ts';

/**
 * The read side of the query API (https://prometheus.io/docs/prometheus/latest/querying/api/). Federation, remote read and
 * write, the admin API, and everything that tells about the server itself are not in it.
 */
const QUERIES = [
  '/api/v1/query',
  '/api/v1/query_range',
  '/api/v1/query_exemplars',
  '/api/v1/format_query',
  '/api/v1/series',
  '/api/v1/labels',
];
const READS = ['/api/v1/metadata', '/api/v1/rules', '/api/v1/alerts'];
const LABEL_VALUES = /^\/api\/v1\/label\/[A-Za-z_][A-Za-z0-9_]*\/values$/;

/** Prometheus, and what speaks its query API. */
export const prometheus: DatasourceAdapter = {
  assertForwarded,
  plan: (spec, target, secret) => ({
    path: underBase(spec.endpoint, originForm(target)),
    ...authOf(spec, secret),
  }),
};

function assertForwarded({ method, path }: DatasourceTarget): void {
  const isQuery = QUERIES.includes(path.text);
  if (!isQuery && !READS.includes(path.text) && !LABEL_VALUES.test(path.text))
    throw refused(
      'EGRESS_DENIED',
      'only the reading part of the Prometheus query API is forwarded',
      'path_not_allowed',
    );
  if (method !== 'GET' && !(isQuery && method === 'POST'))
    throw refused(
      'EGRESS_DENIED',
      `${method} is not a method of this part of the Prometheus query API`,
      'method_not_allowed',
    );
}
