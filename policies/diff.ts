import type { ChangeKind, PolicyChange } from './change.ts';
import { boundaryChanges } from './diff/boundaries.ts';
import { documentChanges } from './diff/documents.ts';
import { roleChanges } from './diff/roles.ts';
import { subjectChanges } from './diff/subjects.ts';
import type { PolicySet } from './policy-set.ts';

/**
 * What one set permits and the other does not: by meaning, not by text. Moving, renaming or splitting rules is no change; each rule
 * that makes a difference comes with an example that is decided otherwise. Requests are compared exactly, for every role, tenant and
 * phase, as PolicyTests see them: before anything expires, and with report mode as if it enforced; dates and modes are changes of
 * their own. Widening first, then by subject, kind and rule.
 * @throws {OutriderError} POLICY_INVALID where query patterns are too complicated to compare: then nothing is known
 */
export function diffPolicySets(before: PolicySet, after: PolicySet): PolicyChange[] {
  return [
    ...subjectChanges(before, after),
    ...roleChanges(before, after),
    ...boundaryChanges(before.documents.boundaries, after.documents.boundaries),
    ...documentChanges(before, after),
  ].toSorted((a, b) => compareText(sortKey(a), sortKey(b)));
}

const KINDS: readonly ChangeKind[] = [
  'allowed',
  'credential',
  'limits',
  'guard',
  'budgets',
  'members',
  'tools',
  'sandbox',
  'mode',
  'expiry',
  'boundary',
  'binding',
  'datasource',
  'denied',
];

function sortKey({
  widening,
  subject,
  phase,
  change,
  policy,
  rule,
  example,
}: PolicyChange): string {
  const kind = String(KINDS.indexOf(change)).padStart(2, '0');
  const { role, tenant } = subject;
  return [widening ? 0 : 1, role, tenant, phase, kind, policy, rule, example].join('\u0000');
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
