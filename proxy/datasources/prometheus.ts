import { originForm } from '#policies';
import type { DatasourceAdapter } from './adapter.ts';
import { authOf } from './auth.ts';
import { underBase } from './http.ts';

/** Prometheus, and what speaks its query API: its reading part, as `inspectDatasource` knows it. */
export const prometheus: DatasourceAdapter = {
  assertSpoken() {},
  readsBody: ({ method }) => method === 'POST',
  plan: (spec, target, secret) => ({
    path: underBase(spec.endpoint, originForm(target)),
    ...authOf(spec, secret),
  }),
};
