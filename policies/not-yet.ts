import type { Report } from './checked.ts';
import type { AllowRuleSpec, PolicyDocument } from './document.ts';

/**
 * What the language has and this version does not enforce. A restriction that is silently not enforced would be a lie in a
 * reviewed file, so it is a load error; the issue that enforces one removes its line here.
 */
export function notInThisVersion(document: PolicyDocument, report: Report): void {
  switch (document.kind) {
    case 'EgressPolicy':
      if (document.spec.budgets) report(['spec', 'budgets'], `budgets ${NOT_YET}`);
      for (const [index, rule] of document.spec.allow.entries())
        ruleFields(rule, ['spec', 'allow', index], report);
      return;
    case 'CredentialBinding':
      for (const kind of ['sigv4', 'oauth2', 'mtls'] as const) {
        if (kind in document.spec.inject) report(['spec', 'inject', kind], `${kind} ${NOT_YET}`);
      }
      if (document.spec.onReject401 === 'refreshOnce')
        report(['spec', 'onReject401'], `refreshOnce ${NOT_YET}`);
      return;
    case 'Datasource':
      if (document.spec.guard) report(['spec', 'guard'], `guard ${NOT_YET}`);
      return;
    case 'Boundary':
      if (document.spec.maxExpiryDays !== undefined)
        report(['spec', 'maxExpiryDays'], `maxExpiryDays ${NOT_YET}`);
      return;
    case 'PolicyTest':
      for (const field of ['never', 'coverage'] as const) {
        if (field in document.spec) report(['spec', field], `${field} ${NOT_YET}`);
      }
      return;
    case 'Role':
      return;
  }
}

const NOT_YET = 'is not enforced in this version, so it is refused';

function ruleFields(rule: AllowRuleSpec, path: readonly (string | number)[], report: Report): void {
  for (const field of ['tables', 'prefixes', 'labels'] as const) {
    if (rule[field]) report([...path, field], `${field} ${NOT_YET}`);
  }
  for (const field of ['rows', 'scanBytes', 'queryTime'] as const) {
    if (rule.limits?.[field] !== undefined)
      report([...path, 'limits', field], `${field} ${NOT_YET}`);
  }
  for (const [index, protocol] of (rule.protocols ?? []).entries()) {
    if (protocol === 'grpc' || protocol === 'websocket') {
      report([...path, 'protocols', index], `${protocol} ${NOT_YET}`);
    }
  }
}
