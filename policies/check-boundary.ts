import { checkCidrs, checkHosts } from './check-rule.ts';
import type { Checked, Report } from './checked.ts';
import type { AllowRuleSpec, Boundary, EgressPolicy } from './document.ts';
import { type HostPattern, hostCovers, parseHostPattern } from './host-pattern.ts';
import { type Cidr, cidrCovers, parseCidr } from './ip.ts';
import type { DocumentPath } from './problem.ts';
import { rateOf } from './units.ts';

export function checkBoundary({ document: { spec }, report }: Checked<Boundary>): void {
  for (const field of ['neverHosts', 'mayHosts'] as const)
    checkHosts(spec[field], ['spec', field], report);
  for (const field of ['neverCidrs', 'mayPrivate'] as const)
    checkCidrs(spec[field], ['spec', field], report);
}

/**
 * A rule that asks for more than a Boundary gives is a load error, so that what a reviewer reads is what holds. A wildcard
 * that merely contains a never-host stays, and the never-host is refused when it is asked for.
 */
export function withinBoundaries(
  { document, report }: Checked<EgressPolicy>,
  boundaries: readonly Boundary[],
): void {
  for (const [index, rule] of document.spec.allow.entries()) {
    const path = ['spec', 'allow', index];
    for (const boundary of boundaries) {
      const ceiling = `the Boundary "${boundary.metadata.name}"`;
      checkRule(rule, boundary.spec, (at, message) =>
        report([...path, ...at], `${ceiling} ${message}`),
      );
    }
    if (rule.allowPrivate === true && boundaries.length === 0) {
      report([...path, 'allowPrivate'], 'this takes the consent of a Boundary (`mayPrivate`)');
    }
  }
}

function checkRule(rule: AllowRuleSpec, boundary: Boundary['spec'], report: Report): void {
  checkRuleHosts(rule, boundary, report);
  checkRuleCidrs(rule, boundary, report);
  for (const [index, port] of (rule.ports ?? []).entries()) {
    if (boundary.neverPorts?.includes(port)) report(['ports', index], `never allows port ${port}`);
  }
  if (rule.protocols?.includes('tunnel') && boundary.mayTunnel === false)
    report(['protocols'], 'allows no tunnels');
  checkMethods(rule, boundary, report);
  checkRate(rule, boundary, report);
}

function checkRuleHosts(
  { hosts = [] }: AllowRuleSpec,
  boundary: Boundary['spec'],
  report: Report,
): void {
  const never = (boundary.neverHosts ?? []).map(hostPattern);
  const may = boundary.mayHosts?.map(hostPattern);
  for (const [index, text] of hosts.entries()) {
    const pattern = hostPattern(text);
    const path: DocumentPath = ['hosts', index];
    const example = pattern.wildcard ? `any.${pattern.name}` : pattern.name;
    if (never.some((outer) => hostCovers(outer, pattern)))
      report(path, `never allows https://${example}/`);
    else if (may && !may.some((outer) => hostCovers(outer, pattern)))
      report(path, `does not list https://${example}/ in \`mayHosts\``);
  }
}

function checkRuleCidrs(rule: AllowRuleSpec, boundary: Boundary['spec'], report: Report): void {
  const never = (boundary.neverCidrs ?? []).map(range);
  const may = (boundary.mayPrivate ?? []).map(range);
  for (const [index, text] of (rule.cidrs ?? []).entries()) {
    const cidr = range(text);
    if (never.some((outer) => cidrCovers(outer, cidr)))
      report(['cidrs', index], `never allows ${text}`);
    else if (rule.allowPrivate === true && !may.some((outer) => cidrCovers(outer, cidr))) {
      report(['cidrs', index], `does not list ${text} in \`mayPrivate\``);
    }
  }
}

function checkMethods(rule: AllowRuleSpec, { mayMethods }: Boundary['spec'], report: Report): void {
  if (mayMethods === undefined || mayMethods === 'any' || rule.methods === undefined) return;
  if (rule.methods === 'any')
    return report(['methods'], `allows ${mayMethods.join(', ')} alone, not any method`);
  for (const [index, method] of rule.methods.entries()) {
    if (!mayMethods.includes(method))
      report(['methods', index], `does not list ${method} in \`mayMethods\``);
  }
}

function checkRate({ limits }: AllowRuleSpec, { maxRate }: Boundary['spec'], report: Report): void {
  if (maxRate === undefined) return;
  if (limits?.rate === undefined)
    return report(['id'], `wants a rate of at most ${maxRate} in \`limits\``);
  const [asked, most] = [rateOf(limits.rate), rateOf(maxRate)];
  if (asked.count * most.perMs > most.count * asked.perMs)
    report(['limits', 'rate'], `allows at most ${maxRate}`);
}

function hostPattern(text: string): HostPattern {
  const pattern = parseHostPattern(text);
  if (typeof pattern === 'string') throw new Error(`unreachable: ${text} was checked before`);
  return pattern;
}

function range(text: string): Cidr {
  const cidr = parseCidr(text);
  if (!cidr) throw new Error(`unreachable: ${text} was checked before`);
  return cidr;
}
