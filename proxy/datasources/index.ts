import type { DatasourceType } from '#policies';
import type { DatasourceAdapter } from './adapter.ts';
import { clickhouse } from './clickhouse.ts';
import { http } from './http.ts';
import { loki } from './loki.ts';
import { prometheus } from './prometheus.ts';
import { s3 } from './s3.ts';

export type { DatasourceCall } from './adapter.ts';

/** One adapter for every type of the policy language. */
export const ADAPTERS: Readonly<Record<DatasourceType, DatasourceAdapter>> = {
  clickhouse,
  http,
  loki,
  prometheus,
  s3,
};
