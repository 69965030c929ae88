import type { Limits, MetricsGuard } from '../projection.ts';
import type { Reason } from '../reason.ts';
import { type ApiPart, lokiPart, prometheusPart } from './api-part.ts';
import { type DatasourceCall, type Inspection, pass, refuse } from './inspection.ts';
import { readLogql } from './logql.ts';
import { Parameters, withParameter } from './parameters.ts';
import { type Matcher, type QueryReach, readPromql, readSelector } from './promql.ts';
import { lokiTimes, prometheusTimes, stepMs, timeoutMs } from './time-range.ts';

/** Points of one series in one answer that Prometheus gives, at most. */
const POINTS_MAX = 11_000;

/** Prometheus and Loki: the reading part of the API, every selector with the labels that the rule demands, and bounded times. */
export function inspectMetrics(
  guard: MetricsGuard | null,
  limits: Limits,
  call: DatasourceCall,
): Inspection {
  const part = call.type === 'loki' ? lokiPart(call.path.text) : prometheusPart(call.path.text);
  if (!part) return refuse('path_not_allowed');
  if (call.method !== 'GET' && !(part.mayPost && call.method === 'POST'))
    return refuse('method_not_allowed');
  if (guard && guard.endpoints !== 'any' && !guard.endpoints.includes(part.group))
    return refuse('path_not_allowed');
  const parameters = Parameters.of(call);
  if (typeof parameters === 'string') return refuse(parameters);
  const labels = Object.entries(guard?.labels ?? {});
  const reason =
    repeated(parameters, part) ??
    wideningRefusal(call, parameters, part, labels) ??
    queriesRefusal(call, parameters, part, labels, limits) ??
    timesRefusal(call, parameters, part, limits);
  return reason ? refuse(reason) : withTimeout(call, parameters, part, limits);
}

type Labels = readonly (readonly [label: string, value: string])[];

function repeated(parameters: Parameters, { repeats }: ApiPart): Reason | undefined {
  const twice = parameters.names.some(
    (name) => !repeats.includes(name) && parameters.all(name).length > 1,
  );
  return twice ? 'param_duplicate' : undefined;
}

/** Where labels are demanded: what they cannot bound, and whatever could name another tenant or widen a query unseen. */
function wideningRefusal(
  { header }: DatasourceCall,
  parameters: Parameters,
  part: ApiPart,
  labels: Labels,
): Reason | undefined {
  if (header('x-scope-orgid') !== undefined) return 'header_forbidden';
  if (labels.length === 0) return undefined;
  if (!part.bounded) return 'label_not_enforced';
  const known = [...part.queries, ...part.others];
  return parameters.names.some((name) => !known.includes(name))
    ? 'query_not_understood'
    : undefined;
}

/** Every selector must carry every label as it is demanded, and no range or step in brackets go beyond the limits. */
function queriesRefusal(
  call: DatasourceCall,
  parameters: Parameters,
  part: ApiPart,
  labels: Labels,
  { rangeMs = Number.POSITIVE_INFINITY, stepMs: stepMinMs = 0 }: Limits,
): Reason | undefined {
  const unbounded = labels.length === 0 && rangeMs === Number.POSITIVE_INFINITY && stepMinMs === 0;
  if (part.queries.length === 0 || unbounded) return undefined;
  const queries = part.queries.flatMap((name) => parameters.all(name));
  if (queries.length === 0 && labels.length > 0) return 'label_not_enforced';
  for (const query of queries) {
    const reach = reachOf(call, part, query);
    if (!reach) return 'query_not_understood';
    const enforced = reach.selectors.every((matchers) =>
      labels.every(([label, value]) => matchers.some((one) => isExactly(one, label, value))),
    );
    if (!enforced) return 'label_not_enforced';
    // Turned so that a time that is no number goes beyond.
    if (!reach.ranges.every((range) => range <= rangeMs)) return 'query_budget';
    if (!reach.steps.every((step) => step >= stepMinMs)) return 'query_budget';
  }
  return undefined;
}

function isExactly(matcher: Matcher, label: string, value: string): boolean {
  return matcher.label === label && matcher.sign === '=' && matcher.value === value;
}

function reachOf({ type }: DatasourceCall, part: ApiPart, query: string): QueryReach | undefined {
  if (type === 'loki') return readLogql(query);
  return part.repeats.length > 0 ? readSelector(query) : readPromql(query);
}

function timesRefusal(
  call: DatasourceCall,
  parameters: Parameters,
  part: ApiPart,
  { rangeMs, stepMs: stepMinMs }: Limits,
): Reason | undefined {
  const times = (call.type === 'loki' ? lokiTimes : prometheusTimes)(parameters);
  if (times === 'unreadable') return 'query_not_understood';
  if (part.ranged && times === 'open' && rangeMs !== undefined) return 'query_budget';
  const spanMs = typeof times === 'object' ? times.endMs - times.startMs : 0;
  if (spanMs > (rangeMs ?? Number.POSITIVE_INFINITY)) return 'query_budget';
  const step = stepMs(parameters.one('step'));
  if (step === 'unreadable') return 'query_not_understood';
  // Without one the server chooses.
  if (step === undefined)
    return stepMinMs !== undefined && part.others.includes('step') ? 'query_budget' : undefined;
  return step < (stepMinMs ?? 0) || spanMs / step > POINTS_MAX ? 'query_budget' : undefined;
}

/** Prometheus gives up by itself when told to; a longer time than the rule's is refused, none is filled in. */
function withTimeout(
  { query }: DatasourceCall,
  parameters: Parameters,
  { others }: ApiPart,
  { queryTimeMs }: Limits,
): Inspection {
  if (queryTimeMs === undefined || !others.includes('timeout')) return pass(query);
  const asked = parameters.one('timeout');
  if (asked === undefined) return pass(withParameter(query, 'timeout', `${queryTimeMs}ms`));
  return timeoutMs(asked) <= queryTimeMs ? pass(query) : refuse('query_budget');
}
