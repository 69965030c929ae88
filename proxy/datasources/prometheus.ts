import { originForm } from '#policies';
import type { DatasourceAdapter } from './adapter.ts';
import { authOf } from './auth.ts';
import { underBase } from './http.ts';

/**
 * Prometheus, and what speaks its query API: its reading part, as `inspectDatasource` knows it. A tenant of the datasource's own
 * goes with every query; a caller that names one is refused.
 */
export const prometheus: DatasourceAdapter = {
  body: ({ method }) => (method === 'POST' ? 'asks' : 'none'),
  plan(call) {
    const { inject, secrets } = authOf(call);
    const { endpoint, tenant } = call.spec;
    return {
      path: underBase(endpoint, originForm(call.target)),
      inject: tenant === undefined ? inject : [...inject, ['x-scope-orgid', tenant]],
      secrets,
    };
  },
};
