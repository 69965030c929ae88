import { periodsOf } from './budget.ts';
import { checkGuard } from './check-guard.ts';
import type { Checked, Report } from './checked.ts';
import type { AllowRuleSpec, DenyRuleSpec, EgressPolicy } from './document.ts';
import { parseHostPattern } from './host-pattern.ts';
import { parseCidr } from './ip.ts';
import { classifyIp } from './ip-class.ts';
import { parsePathPattern } from './path-pattern.ts';
import type { DocumentPath } from './problem.ts';
import { parseQueryPattern } from './query-pattern.ts';
import { rateOf } from './units.ts';

/** The rules of one policy, each for itself: ids, patterns, ranges. */
export function checkPolicyRules({ document, report }: Checked<EgressPolicy>): void {
  const { allow, deny = [] } = document.spec;
  const seen = new Set<string>();
  const uniqueId = (id: string, path: DocumentPath) => {
    if (seen.has(id)) report([...path, 'id'], `another rule of this policy is called "${id}"`);
    if (id === REPORT)
      report([...path, 'id'], `"${REPORT}" is what report mode calls itself: choose another id`);
    seen.add(id);
  };
  for (const [index, rule] of allow.entries()) {
    const path = ['spec', 'allow', index];
    uniqueId(rule.id, path);
    checkPatterns(rule, path, report);
    checkAllow(rule, path, report);
    checkGuard(rule, path, report);
  }
  for (const [index, rule] of deny.entries()) {
    const path = ['spec', 'deny', index];
    uniqueId(rule.id, path);
    checkPatterns(rule, path, report);
  }
  for (const [index, budget] of (document.spec.budgets ?? []).entries()) {
    const path = ['spec', 'budgets', index];
    uniqueId(budget.id, path);
    if (periodsOf(budget).length !== 1)
      report([...path, 'per'], 'a budget is for exactly one of hour, day and month');
  }
}

/** The id that decisions of report mode carry. */
const REPORT = 'report';

/** Checks host patterns wherever they stand. */
export function checkHosts(
  hosts: readonly string[] | undefined,
  path: DocumentPath,
  report: Report,
): void {
  for (const [index, text] of (hosts ?? []).entries()) {
    const pattern = parseHostPattern(text);
    if (typeof pattern === 'string') report([...path, index], pattern);
  }
}

/** Checks address ranges wherever they stand. */
export function checkCidrs(
  cidrs: readonly string[] | undefined,
  path: DocumentPath,
  report: Report,
): void {
  for (const [index, text] of (cidrs ?? []).entries()) {
    if (!parseCidr(text)) {
      report(
        [...path, index],
        'this is not a range in its one spelling: address/bits, nothing set behind the bits, no mapped IPv4',
      );
    }
  }
}

export function checkPaths(
  paths: 'any' | readonly string[] | undefined,
  path: DocumentPath,
  report: Report,
): void {
  if (paths === undefined || paths === 'any') return;
  for (const [index, text] of paths.entries()) {
    const pattern = parsePathPattern(text);
    if (typeof pattern === 'string') report([...path, index], pattern);
  }
}

function checkPatterns(
  rule: AllowRuleSpec | DenyRuleSpec,
  path: DocumentPath,
  report: Report,
): void {
  checkHosts(rule.hosts, [...path, 'hosts'], report);
  checkCidrs(rule.cidrs, [...path, 'cidrs'], report);
  checkPaths(rule.paths, [...path, 'paths'], report);
}

function checkAllow(rule: AllowRuleSpec, path: DocumentPath, report: Report): void {
  for (const [name, text] of Object.entries(rule.query ?? {})) {
    const pattern = parseQueryPattern(text);
    if (typeof pattern === 'string') report([...path, 'query', name], pattern);
  }
  if (rule.queryStrict === true && rule.query === undefined && rule.datasource === undefined) {
    report([...path, 'queryStrict'], 'name the parameters that are allowed in `query`');
  }
  if (rule.credential !== undefined && rule.scheme === 'http') {
    report([...path, 'credential'], 'a credential is not sent without TLS: leave `scheme` out');
  }
  if (rule.credential !== undefined && rule.cidrs) {
    report([...path, 'credential'], 'a credential is bound to hosts, so the rule must name hosts');
  }
  if (rule.limits?.burst !== undefined && rule.limits.rate === undefined) {
    report([...path, 'limits', 'burst'], 'burst is a part of rate, which is missing');
  }
  if (rule.limits?.rate !== undefined && rateOf(rule.limits.rate).count === 0) {
    report([...path, 'limits', 'rate'], 'a rate of nothing is a deny rule');
  }
  for (const [index, text] of (rule.cidrs ?? []).entries()) {
    const cidr = parseCidr(text);
    const kind = cidr ? classifyIp(cidr.base) : 'public';
    // A range that begins in public space and ends elsewhere is held to the class of each address when it is used.
    if (kind === 'private' && rule.allowPrivate !== true) {
      report(
        [...path, 'cidrs', index],
        'these addresses are private: say `allowPrivate: true`, and list them in the Boundary',
      );
    } else if (kind !== 'public' && kind !== 'private' && (cidr?.bits ?? 0) > 104) {
      report([...path, 'cidrs', index], `these addresses are ${kind}: no rule reaches them`);
    }
  }
}
