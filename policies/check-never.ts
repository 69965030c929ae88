import { checkCidrs, checkHosts, checkPaths } from './check-rule.ts';
import type { Checked, Report } from './checked.ts';
import type { NeverSpec, PolicyTest } from './document.ts';
import type { DocumentPath } from './problem.ts';

/** Checks the patterns of `never` clauses. */
export function checkNever({ document, report }: Checked<PolicyTest>): void {
  for (const [index, clause] of (document.spec.never ?? []).entries()) {
    const path = ['spec', 'never', index];
    const hosts = clause.hosts?.filter((host) => host !== EVERY_HOST);
    checkHosts(hosts, [...path, 'hosts'], report);
    checkCidrs(clause.cidrs, [...path, 'cidrs'], report);
    checkPaths(clause.paths, [...path, 'paths'], report);
    checkEveryHost(clause, [...path, 'hosts'], report);
  }
}

/** `**` beside other names or ranges would make those a lie. */
function checkEveryHost({ hosts, cidrs }: NeverSpec, path: DocumentPath, report: Report): void {
  if (hosts?.includes(EVERY_HOST) && (hosts.length > 1 || cidrs))
    report(path, `"${EVERY_HOST}" is every host already: leave it or the rest out`);
}

/** In a `never` clause alone: every name and every address. */
export const EVERY_HOST = '**';
