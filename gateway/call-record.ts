import { type AuditFields, AuditLabels } from '#core/audit';
import type { OutriderError } from '#core/errors';
import type { Metrics } from '#core/metrics';
import type { Principal } from '#core/principal';
import { redact } from '#core/redact';
import type { TimingSeries } from '#core/timing';
import type { GatewayAudit } from './audit.ts';
import type { CallOutcome } from './relay/call-outcome.ts';
import type { Era } from './relay/era.ts';
import { type Message, toolOf } from './relay/message.ts';

/** Everything about one request that its records may say. */
export interface CallFacts {
  readonly requestId: string;
  readonly principal: Principal;
  readonly era: Era;
  readonly messages: readonly Message[];
  readonly traceparent: unknown;
  readonly policyDigest: string | undefined;
  readonly bytesIn: number;
}

export interface CallResult {
  readonly outcome: CallOutcome;
  readonly status: number | undefined;
  readonly error?: OutriderError | undefined;
  readonly durationMs: number;
  readonly upstreamMs: number | undefined;
  readonly bytesOut: number;
}

/** The measures of one set of labels; at most 100 tools have some. */
interface Series {
  readonly labels: Readonly<Record<'tool' | 'outcome' | 'era', string>>;
  /** Since the metrics were last asked for. */
  calls: number;
  readonly whole: TimingSeries;
  readonly behind: TimingSeries;
}

const TOOLS_MAX = 100;
const ARGUMENTS_MAX_CHARACTERS = 500;

/**
 * Tells of tool calls, one audit record and one measurement each. The name of a tool is a label for the first 100 names that a
 * server has answered for, and `other` after that: names are the callers' to choose.
 */
export function createCallRecorder(
  metrics: Metrics,
  audit: GatewayAudit,
  withArguments: boolean,
): (facts: CallFacts, result: CallResult) => void {
  /** By tool: one for each outcome and era that there was. */
  const made = new Map<string, Series[]>();
  metrics.counter(
    'outrider_tool_calls_total',
    'Tool calls by their outcome',
    ['tool', 'outcome', 'era'],
    (counter) => {
      for (const one of [...made.values()].flat()) {
        counter.inc(one.labels, one.calls);
        one.calls = 0;
      }
    },
  );
  const whole = metrics.timing('outrider_tool_duration_seconds', 'Time of tool calls', 'tool');
  const behind = metrics.timing(
    'outrider_upstream_duration_seconds',
    'Time of tool calls at the server; the rest is the gateway and the client',
    'tool',
  );
  const series = (tool: string, outcome: CallOutcome, era: Era): Series => {
    const ofTool = made.get(tool) ?? [];
    const found = ofTool.find(({ labels }) => labels.outcome === outcome && labels.era === era);
    if (found) return found;
    const labels = { tool, outcome, era };
    const one = { labels, calls: 0, whole: whole.of(tool), behind: behind.of(tool) };
    made.set(tool, [...ofTool, one]);
    return one;
  };
  const labelsOf = callerLabels();
  const known = new Set<string>();
  const labelOf = (tool: string, { outcome }: CallResult): string => {
    if (known.has(tool)) return tool;
    const counts = (outcome === 'ok' || outcome === 'failed') && /^[\w./-]{1,64}$/.test(tool);
    if (!counts || known.size >= TOOLS_MAX) return 'other';
    known.add(tool);
    return tool;
  };

  return (facts, result) => {
    for (const message of facts.messages) {
      const name = toolOf(message);
      if (name === undefined) continue;
      const tool = labelOf(name, result);
      const measured = series(tool, result.outcome, facts.era);
      measured.calls += 1;
      measured.whole.observe(result.durationMs / 1_000);
      if (result.upstreamMs !== undefined) measured.behind.observe(result.upstreamMs / 1_000);
      audit.record(
        recordOf(facts, result, name, withArguments ? argumentsOf(message) : undefined),
        labelsOf(facts),
      );
    }
  };
}

/** What all records of one caller under one set of policies say. */
function callerLabels(): (facts: CallFacts) => AuditLabels {
  const known = new WeakMap<
    Principal,
    { readonly digest: string | undefined; readonly labels: AuditLabels }
  >();
  return ({ principal, policyDigest }) => {
    const found = known.get(principal);
    if (found && found.digest === policyDigest) return found.labels;
    const { issuer, subject, tenant } = principal;
    const labels = new AuditLabels({ issuer, subject, tenant, ingress: 'mcp', policyDigest });
    known.set(principal, { digest: policyDigest, labels });
    return labels;
  };
}

function recordOf(
  { requestId, traceparent, bytesIn }: CallFacts,
  { outcome, status, error, durationMs, upstreamMs, bytesOut }: CallResult,
  tool: string,
  detail: string | undefined,
): AuditFields {
  return {
    event: 'call',
    requestId,
    traceId: traceIdOf(traceparent),
    tool: tool.slice(0, 128),
    verdict: verdictOf(outcome, error),
    reason: outcome,
    code: error?.code,
    status,
    bytesIn,
    bytesOut,
    durationMs: Math.round(durationMs),
    upstreamMs: upstreamMs === undefined ? undefined : Math.round(upstreamMs),
    detail,
  };
}

function verdictOf(outcome: CallOutcome, error: OutriderError | undefined): AuditFields['verdict'] {
  if (outcome === 'denied') return 'deny';
  return error === undefined ? 'allow' : 'error';
}

/** W3C Trace Context: version, trace id, parent, flags. */
export function traceIdOf(traceparent: unknown): string | undefined {
  return typeof traceparent === 'string'
    ? /^[\da-f]{2}-([\da-f]{32})-[\da-f]{16}-[\da-f]{2}/.exec(traceparent)?.[1]
    : undefined;
}

function argumentsOf({ params }: Message): string {
  return JSON.stringify(redact(params['arguments']) ?? {}).slice(0, ARGUMENTS_MAX_CHARACTERS);
}
