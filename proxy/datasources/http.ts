import { originForm } from '#policies';
import type { DatasourceAdapter } from './adapter.ts';
import { authOf } from './auth.ts';

/** Any HTTP API behind its endpoint's base path. Methods and paths are the policy's to allow. */
export const http: DatasourceAdapter = {
  assertSpoken() {},
  readsBody: () => false,
  plan: (spec, target, secret) => ({
    path: underBase(spec.endpoint, originForm(target)),
    ...authOf(spec, secret),
  }),
};

/** The endpoint's path, without a slash at its end, and the caller's behind it. The caller's is canonical: it cannot climb. */
export function underBase(endpoint: string, path: string): string {
  const base = new URL(endpoint).pathname;
  return `${base.endsWith('/') ? base.slice(0, -1) : base}${path}`;
}
