import { printable } from '#core/printable';
import type { AllowRuleSpec, Phase, PolicyDocuments, PolicySet } from '#policies';
import { decideCase } from '#policystore';
import {
  type Refused,
  type SuggestedPolicy,
  type SuggestedRule,
  type Suggestion,
} from '#policystore/review';

/** A line of an audit file. */
export interface Source {
  readonly file: string;
  readonly line: number;
}

/**
 * The suggested policies and a PolicyTest of each, as a person would write them: YAML documents with comments, which load
 * beside the others. Empty where nothing is suggested.
 */
export function suggestedYaml(
  set: PolicySet,
  { policies }: Suggestion<Source>,
  phase: Phase,
  today: Date,
): string {
  const { egressPolicies, tests } = set.documents;
  const names = new Set([...egressPolicies, ...tests].map(({ metadata }) => metadata.name));
  return policies
    .flatMap((policy) => {
      const name = freeName(`${policy.role}-suggested`, names);
      const expires = expiryOf(set.documents, today);
      return [policyYaml(name, policy, phase, expires), testYaml(name, policy, phase, set)];
    })
    .join('---\n');
}

function policyYaml(
  name: string,
  { role, tenant, rules }: SuggestedPolicy<Source>,
  phase: Phase,
  expires: string | undefined,
): string {
  return [
    'apiVersion: outrider/v1',
    'kind: EgressPolicy',
    `metadata: ${flow({ name, ...(expires === undefined ? {} : { expires }), description: 'Suggested from an audit: review every rule.' })}`,
    'spec:',
    `  subjects: [${flow({ role, ...(tenant === null ? {} : { tenant }) })}]`,
    ...(phase === 'install' ? ['  phase: install'] : []),
    '  mode: enforce',
    '  allow:',
    ...rules.flatMap(ruleLines),
    '',
  ].join('\n');
}

function ruleLines({ rule, because, near }: SuggestedRule<Source>): string[] {
  const { id, ...fields } = rule;
  return [
    `    # ${printable(becauseText(because))}`,
    ...(near ? [`    # ${printable(`near: ${near.rule} (${near.misses})`)}`] : []),
    `    - id: ${id}`,
    ...Object.entries(fields).map(([key, value]) => `      ${key}: ${flow(value)}`),
  ];
}

const LINES_SHOWN = 5;

/** How often, and where that is written down. */
function becauseText(because: readonly Refused<Source>[]): string {
  const sources = because.flatMap((refused) => refused.sources);
  const shown = sources.slice(0, LINES_SHOWN).map(({ file, line }) => `${file}:${line}`);
  const more = sources.length > LINES_SHOWN ? [`${sources.length - LINES_SHOWN} more`] : [];
  return `asked for ${sources.length === 1 ? 'once' : `${sources.length} times`}: ${[...shown, ...more].join(', ')}`;
}

/** Of each rule a case that it allows, and one that it nearly does. */
function testYaml(
  name: string,
  { role, tenant, rules }: SuggestedPolicy<Source>,
  phase: Phase,
  set: PolicySet,
): string {
  const as = {
    role,
    ...(tenant === null ? {} : { tenant }),
    ...(phase === 'run' ? {} : { phase }),
  };
  const asked = new Set(rules.flatMap(({ because }) => because.map(({ request }) => request)));
  const cases = rules.flatMap(({ rule, because }) => {
    const request = because[0]?.request ?? '';
    const allowed = { verdict: 'allow', rule: rule.id };
    const near = beside(request, rule, asked);
    const refused = decideCase(set, as, near).outcome.verdict === 'deny';
    return [
      { name: `${rule.id} allows what was asked for`, request, expect: allowed },
      ...(refused
        ? [{ name: `${rule.id} allows no more`, request: near, expect: { verdict: 'deny' } }]
        : []),
    ];
  });
  return [
    'apiVersion: outrider/v1',
    'kind: PolicyTest',
    `metadata: ${flow({ name })}`,
    'spec:',
    `  as: ${flow(as)}`,
    '  cases:',
    ...cases.map((one) => `    - ${flow(one)}`),
    '',
  ].join('\n');
}

/** A request that nobody asked for and the rule misses in one thing: the port of a tunnel, the path of a request. */
function beside(request: string, { protocols }: AllowRuleSpec, asked: ReadonlySet<string>): string {
  if (!protocols?.includes('tunnel')) {
    const path = `${request}${request.endsWith('/') ? '' : '/'}not-asked-for`;
    return asked.has(path) ? beside(path, { id: '' }, asked) : path;
  }
  const host = request.slice(0, request.lastIndexOf(':'));
  let port = 8443;
  while (asked.has(`${host}:${port}`)) port += 1;
  return `${host}:${port}`;
}

/** The last day that every Boundary allows; undefined where none asks for one. */
function expiryOf({ boundaries }: PolicyDocuments, today: Date): string | undefined {
  const days = boundaries.flatMap(({ spec }) => spec.maxExpiryDays ?? []);
  if (days.length === 0) return undefined;
  return new Date(today.getTime() + Math.min(...days) * 86_400_000).toISOString().slice(0, 10);
}

function freeName(wanted: string, taken: Set<string>): string {
  let name = wanted.slice(0, 60);
  for (let number = 2; taken.has(name); number += 1) name = `${wanted.slice(0, 58)}-${number}`;
  taken.add(name);
  return name;
}

/** A value in YAML's flow style, on one line. Text stands without quotes only where it could be nothing else. */
function flow(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`;
  if (typeof value === 'object' && value !== null)
    return `{${Object.entries(value)
      .map(([key, item]) => `${key}: ${flow(item)}`)
      .join(', ')}}`;
  if (typeof value !== 'string') return JSON.stringify(value);
  const plain =
    /^[A-Za-z/][\w/. -]*[\w/]$|^\/$|^[A-Za-z]$/.test(value) &&
    !/^(?:true|false|null|yes|no|on|off)$/i.test(value);
  return plain ? value : JSON.stringify(value);
}
