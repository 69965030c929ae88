import { checkBoundary, withinBoundaries } from './check-boundary.ts';
import { checkCredentials } from './check-credential.ts';
import { checkDatasource } from './check-datasource.ts';
import { checkGuardOverlaps } from './check-guard.ts';
import { checkNever } from './check-never.ts';
import { checkReferences } from './check-reference.ts';
import { checkDependencies, checkTools } from './check-role.ts';
import { checkPolicyRules } from './check-rule.ts';
import type { Checked, Report } from './checked.ts';
import type { PolicyDocument, PolicyDocuments } from './document.ts';
import { notInThisVersion } from './not-yet.ts';
import type { PolicyProblem } from './problem.ts';
import { endOfDayMs } from './units.ts';

/** Everything that is wrong with documents that have the schema's shape: what crosses documents or needs arithmetic. */
export function checkDocuments(
  documents: PolicyDocuments,
  nowMs = Number.POSITIVE_INFINITY,
): PolicyProblem[] {
  const problems: PolicyProblem[] = [];
  const checked = <D extends PolicyDocument>(list: readonly D[]): Checked<D>[] =>
    list.map((document, index) => ({
      document,
      report: (path, message) => {
        problems.push({ kind: document.kind, name: fullName(document), index, path, message });
      },
    }));
  const roles = checked(documents.roles);
  const policies = checked(documents.egressPolicies);
  const credentials = checked(documents.credentialBindings);
  const datasources = checked(documents.datasources);
  const boundaries = checked(documents.boundaries);
  const tests = checked(documents.tests);

  for (const list of [roles, policies, credentials, datasources, boundaries, tests]) {
    checkNames<PolicyDocument>(list);
    for (const { document, report } of list) {
      checkDates(document, report);
      notInThisVersion(document, report);
    }
  }
  for (const role of roles) {
    checkDependencies(role);
    checkTools(role);
  }
  for (const boundary of boundaries) checkBoundary(boundary);
  for (const test of tests) checkNever(test);
  for (const policy of policies) checkPolicyRules(policy);
  for (const datasource of datasources) checkDatasource(datasource, documents.boundaries);
  // What follows compares patterns, so they must be sound.
  if (problems.length > 0) return problems;
  checkReferences(documents, { policies, tests });
  checkGuardOverlaps(policies);
  checkCredentials(documents, credentials, policies);
  withinBoundaries(documents, policies, nowMs);
  return problems;
}

/** A Datasource is named within its type: `prometheus/main`. */
export function fullName(document: PolicyDocument): string {
  const { name } = document.metadata;
  return document.kind === 'Datasource' ? `${document.spec.type}/${name}` : name;
}

function checkNames<D extends PolicyDocument>(list: readonly Checked<D>[]): void {
  const seen = new Set<string>();
  for (const { document, report } of list) {
    const name = fullName(document);
    if (seen.has(name)) report(['metadata', 'name'], `there is another ${document.kind} "${name}"`);
    seen.add(name);
  }
}

function checkDates(document: PolicyDocument, report: Report): void {
  const { expires } = document.metadata;
  if (expires !== undefined && endOfDayMs(expires) === undefined) {
    report(['metadata', 'expires'], 'the calendar has no such day');
  }
  if (document.kind === 'Boundary' && expires !== undefined) {
    report(['metadata', 'expires'], 'a Boundary does not expire: the ceiling would be gone');
  }
  if (document.kind !== 'EgressPolicy' || document.spec.until === undefined) return;
  if (endOfDayMs(document.spec.until) === undefined)
    report(['spec', 'until'], 'the calendar has no such day');
}
