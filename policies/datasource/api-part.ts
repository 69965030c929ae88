import type { QueryEndpoint } from '../document.ts';

export const QUERY_ENDPOINTS = [
  'query',
  'series',
  'labels',
  'exemplars',
  'metadata',
  'rules',
  'alerts',
  'format',
  'stats',
] as const satisfies readonly QueryEndpoint[];

/** One path of a query API. */
export interface ApiPart {
  readonly group: QueryEndpoint;
  /** Parameters whose values are queries or selectors. */
  readonly queries: readonly string[];
  /** Those of them that may be given more than once. */
  readonly repeats: readonly string[];
  /** Every other parameter that it has; each at most once. */
  readonly others: readonly string[];
  /** Whether what it answers is bounded by its queries: else demanded labels cannot be enforced. */
  readonly bounded: boolean;
  /** Whether it looks at a time from `start` to `end`. */
  readonly ranged: boolean;
  readonly mayPost: boolean;
}

/**
 * The read side of the Prometheus query API (https://prometheus.io/docs/prometheus/latest/querying/api/). Federation, remote
 * read and write, the admin API, and everything that tells about the server itself are not in it.
 */
export function prometheusPart(path: string): ApiPart | undefined {
  return LABEL_VALUES.test(path) ? PROMETHEUS_VALUES : PROMETHEUS.get(path);
}

/**
 * The read side of the Loki API (https://grafana.com/docs/loki/latest/reference/loki-http-api/). Pushing, deleting, tailing (a
 * WebSocket), the rulers and everything about the server itself are not in it.
 */
export function lokiPart(path: string): ApiPart | undefined {
  return LOKI_VALUES.test(path) ? LOKI_LABEL_VALUES : LOKI.get(path);
}

const LABEL_VALUES = /^\/api\/v1\/label\/[A-Za-z_][A-Za-z0-9_]*\/values$/;
const LOKI_VALUES = /^\/loki\/api\/v1\/label\/[A-Za-z_][A-Za-z0-9_]*\/values$/;

const TIMES = ['start', 'end'];

function part(group: QueryEndpoint, given: Partial<ApiPart>): ApiPart {
  const { queries = [], others = [] } = given;
  return {
    group,
    repeats: [],
    bounded: queries.length > 0,
    ranged: others.includes('start'),
    mayPost: true,
    ...given,
    queries,
    others,
  };
}

const SELECTORS = { queries: ['match[]'], repeats: ['match[]'] };
const PROMETHEUS_VALUES = part('labels', {
  ...SELECTORS,
  others: [...TIMES, 'limit'],
  mayPost: false,
});
const PROMETHEUS: ReadonlyMap<string, ApiPart> = new Map([
  [
    '/api/v1/query',
    part('query', { queries: ['query'], others: ['time', 'timeout', 'limit', 'stats'] }),
  ],
  [
    '/api/v1/query_range',
    part('query', {
      queries: ['query'],
      others: [...TIMES, 'step', 'timeout', 'limit', 'stats'],
    }),
  ],
  ['/api/v1/query_exemplars', part('exemplars', { queries: ['query'], others: TIMES })],
  ['/api/v1/series', part('series', { ...SELECTORS, others: [...TIMES, 'limit'] })],
  ['/api/v1/labels', part('labels', { ...SELECTORS, others: [...TIMES, 'limit'] })],
  // It writes a query in its usual form and looks at no data.
  ['/api/v1/format_query', part('format', { others: ['query'], bounded: true })],
  [
    '/api/v1/metadata',
    part('metadata', { others: ['limit', 'limit_per_metric', 'metric'], mayPost: false }),
  ],
  [
    '/api/v1/rules',
    part('rules', {
      others: ['type', 'exclude_alerts', 'group_limit', 'group_next_token'],
      mayPost: false,
    }),
  ],
  ['/api/v1/alerts', part('alerts', { mayPost: false })],
]);

const LOKI_TIMES = [...TIMES, 'since'];
const LOKI_LABEL_VALUES = part('labels', {
  queries: ['query'],
  others: LOKI_TIMES,
  mayPost: false,
});
const LOKI: ReadonlyMap<string, ApiPart> = new Map([
  [
    '/loki/api/v1/query',
    part('query', { queries: ['query'], others: ['limit', 'time', 'direction'] }),
  ],
  [
    '/loki/api/v1/query_range',
    part('query', {
      queries: ['query'],
      others: [...LOKI_TIMES, 'limit', 'step', 'interval', 'direction'],
    }),
  ],
  [
    '/loki/api/v1/labels',
    part('labels', { queries: ['query'], others: LOKI_TIMES, mayPost: false }),
  ],
  [
    '/loki/api/v1/series',
    part('series', { queries: ['match[]'], repeats: ['match[]'], others: LOKI_TIMES }),
  ],
  [
    '/loki/api/v1/index/stats',
    part('stats', { queries: ['query'], others: TIMES, mayPost: false }),
  ],
  [
    '/loki/api/v1/index/volume',
    part('stats', {
      queries: ['query'],
      others: [...TIMES, 'limit', 'targetLabels', 'aggregateBy'],
      mayPost: false,
    }),
  ],
  [
    '/loki/api/v1/index/volume_range',
    part('stats', {
      queries: ['query'],
      others: [...TIMES, 'step', 'limit', 'targetLabels', 'aggregateBy'],
      mayPost: false,
    }),
  ],
]);
