import type { Guard, Limits } from '../projection.ts';
import { inspectClickhouse } from './clickhouse.ts';
import { type DatasourceCall, type Inspection, pass } from './inspection.ts';
import { inspectMetrics } from './metrics.ts';
import { inspectS3 } from './s3.ts';

export { type DatasourceCall, type Inspection, refuse } from './inspection.ts';
export { s3ShapeRefusal, signedBefore } from './s3.ts';
export { copySource } from './s3-named.ts';

/**
 * Whether what a rule allows by method and path may also be asked, by the words of the query: tables, labels, keys, times. Pure
 * and total; what is not understood is refused. `guard` and `limits` are those of the decision that allowed the request.
 */
export function inspectDatasource(
  guard: Guard | null,
  limits: Limits,
  call: DatasourceCall,
): Inspection {
  const { type, query } = call;
  // Of `http` nothing is known but method and path, which the rule has looked at.
  if (type === 'http') return pass(query);
  if (type === 's3') return inspectS3(guard?.type === type ? guard : null, call);
  if (type === 'clickhouse')
    return inspectClickhouse(guard?.type === type ? guard : null, limits, call);
  return inspectMetrics(guard?.type === type ? guard : null, limits, call);
}
