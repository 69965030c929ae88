import type { DatasourceAdapter } from './adapter.ts';
import { prometheus } from './prometheus.ts';

/** Loki: its reading part. What is different from Prometheus is in the queries, and `inspectDatasource` knows it; on the wire nothing is. */
export const loki: DatasourceAdapter = prometheus;
