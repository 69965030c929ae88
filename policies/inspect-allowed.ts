import {
  type DatasourceCall,
  type Inspection,
  inspectDatasource,
  refuse,
} from './datasource/index.ts';
import { type AllowDecision, decide } from './decide.ts';
import type { RolePolicy } from './role-policy.ts';
import type { DatasourceTarget } from './target.ts';

/**
 * What `inspectDatasource` says of a target that `decision` allows, and of every other request that it comes down to: each is decided
 * for itself, so that whatever a rule denies is out of reach by a copy, too.
 */
export function inspectAllowed(
  policy: RolePolicy,
  { guard, limits }: AllowDecision,
  target: DatasourceTarget,
  content: Pick<DatasourceCall, 'body' | 'header'>,
  nowMs: number,
): Inspection {
  const inspection = inspectDatasource(guard, limits, { ...target, ...content });
  if (!inspection.ok) return inspection;
  const refused = inspection.implied.find(
    ({ method, path }) => !mayBeAsked(policy, { ...target, method, path, query: null }, nowMs),
  );
  return refused ? refuse(refused.otherwise) : inspection;
}

function mayBeAsked(policy: RolePolicy, target: DatasourceTarget, nowMs: number): boolean {
  const decision = decide(policy, target, nowMs);
  if (decision.verdict === 'deny') return false;
  const call = { ...target, body: null, header: () => undefined };
  return inspectDatasource(decision.guard, decision.limits, call).ok;
}
