import type { ClickhouseGuard, Limits } from '../projection.ts';
import type { Reason } from '../reason.ts';
import { type DatasourceCall, type Inspection, pass, refuse } from './inspection.ts';
import { Parameters, withoutParameters, withParameter } from './parameters.ts';
import { sqlRefusal } from './sql.ts';

/** Headers that name a user, a key, a database or a format of the caller's own choice. */
const HEADERS = ['user', 'key', 'database', 'quota', 'format', 'ssl-certificate-auth', 'jwt'];
/** Parameters of the HTTP interface that are no settings. */
const CALLERS_OWN =
  /^(?:user|password|quota_key|role|session_.*|param_.*|database|compress|decompress|replace_running_query)$/;
/** What clients send by themselves and what means nothing to the rule: taken out of what is sent. */
const DROPPED = ['query_id'];

/**
 * ClickHouse over HTTP: one reading statement, in the URL or in the body, about granted tables, without settings but those of the
 * rule. The rule's limits become settings of the query. https://clickhouse.com/docs/interfaces/http
 */
export function inspectClickhouse(
  guard: ClickhouseGuard | null,
  limits: Limits,
  call: DatasourceCall,
): Inspection {
  if (call.path.text !== '/') return refuse('path_not_allowed');
  if (call.method !== 'GET' && call.method !== 'POST') return refuse('method_not_allowed');
  if (HEADERS.some((name) => call.header(`x-clickhouse-${name}`) !== undefined))
    return refuse('header_forbidden');
  if (call.header('content-encoding') !== undefined) return refuse('encoded_body_forbidden');
  const parameters = Parameters.of({ ...call, body: null });
  if (typeof parameters === 'string') return refuse(parameters);
  const sql = sqlOf(call, parameters);
  if (!sql.ok) return refuse(sql.reason);
  const grant = guard ?? { tables: [], functions: [], settings: [] };
  const reason = parametersRefusal(parameters, grant.settings) ?? sqlRefusal(sql.text, grant);
  return reason ? refuse(reason) : pass(withLimits(withoutParameters(call.query, DROPPED), limits));
}

function sqlOf(
  { method, body }: DatasourceCall,
  parameters: Parameters,
): { readonly ok: true; readonly text: string } | { readonly ok: false; readonly reason: Reason } {
  const [inUrl, inBody] = [parameters.one('query'), body ?? ''];
  if (inUrl !== undefined)
    return inBody === '' ? { ok: true, text: inUrl } : { ok: false, reason: 'ch_split_query' };
  return method === 'POST' && inBody !== ''
    ? { ok: true, text: inBody }
    : { ok: false, reason: 'query_not_understood' };
}

function parametersRefusal(
  parameters: Parameters,
  settings: readonly string[],
): Reason | undefined {
  for (const name of parameters.names) {
    if (parameters.all(name).length > 1) return 'param_duplicate';
    if (name === 'query' || name === 'default_format' || DROPPED.includes(name)) continue;
    if (CALLERS_OWN.test(name)) return 'ch_param_forbidden';
    if (!settings.includes(name)) return 'ch_setting_forbidden';
  }
  return undefined;
}

/** https://clickhouse.com/docs/operations/settings/query-complexity */
function withLimits(query: string | null, { rows, scanBytes, queryTimeMs }: Limits): string | null {
  const settings: readonly (readonly [string, number | undefined])[] = [
    ['max_result_rows', rows],
    ['max_bytes_to_read', scanBytes],
    ['max_execution_time', queryTimeMs && queryTimeMs / 1_000],
  ];
  return settings.reduce<string | null>(
    (text, [name, value]) =>
      value === undefined ? text : withParameter(text, name, String(value)),
    query,
  );
}
