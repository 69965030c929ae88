import { checkCidrs, checkHosts } from './check-rule.ts';
import type { Checked, Report } from './checked.ts';
import type {
  AllowRuleSpec,
  Boundary,
  BoundarySpec,
  EgressPolicy,
  Metadata,
  PolicyDocuments,
} from './document.ts';
import type { DocumentPath } from './problem.ts';
import { eachPolicy } from './project.ts';
import type { AllowProjection, PolicyProjection } from './projection.ts';

import {
  type Box,
  type Ceiling,
  ceilingsOf,
  find,
  type Grant,
  type Grants,
  regionOf,
  type Witness,
} from './space/index.ts';
import { endOfDayMs, rateOf } from './units.ts';

export function checkBoundary({ document: { spec }, report }: Checked<Boundary>): void {
  for (const field of ['neverHosts', 'mayHosts'] as const)
    checkHosts(spec[field], ['spec', field], report);
  for (const field of ['neverCidrs', 'mayPrivate'] as const)
    checkCidrs(spec[field], ['spec', field], report);
}

/**
 * What a policy allows, less what its own deny rules refuse, must lie within every Boundary: exactly, not by samples, so that
 * what a reviewer reads is what holds. `nowMs` is for `maxExpiryDays` alone; time that passes makes no policy wrong.
 */
export function withinBoundaries(
  documents: PolicyDocuments,
  policies: readonly Checked<EgressPolicy>[],
  nowMs: number,
): void {
  const { boundaries } = documents;
  const ceilings = boundaries.map(({ metadata, spec }) => ({
    name: metadata.name,
    spec,
    ceilings: ceilingsOf(spec),
  }));
  const projections = eachPolicy(documents);
  for (const { document, report } of policies) {
    const projection = projections.get(document);
    for (const [index, rule] of document.spec.allow.entries()) {
      if (rule.allowPrivate === true && boundaries.length === 0)
        report(
          ['spec', 'allow', index, 'allowPrivate'],
          'this takes the consent of a Boundary (`mayPrivate`)',
        );
    }
    for (const boundary of ceilings) {
      const named: Report = (path, message) =>
        report(path, `the Boundary "${boundary.name}" ${message}`);
      checkExpiry(document.metadata, boundary.spec, nowMs, named);
      for (const [index, rule] of document.spec.allow.entries())
        checkRate(rule, boundary.spec, (path, message) =>
          named(['spec', 'allow', index, ...path], message),
        );
      if (projection) checkRegion(document, projection, boundary.ceilings, named);
    }
  }
}

function checkRegion(
  { spec }: EgressPolicy,
  projection: PolicyProjection,
  ceilings: readonly Ceiling[],
  report: Report,
): void {
  if (ceilings.length === 0) return;
  // While a policy only reports, its deny rules refuse nothing.
  const region = regionOf([projection], spec.mode === 'enforce' ? [projection] : []);
  const said = new Set<string>();
  for (const grants of [region.requests, region.tunnels]) {
    for (const grant of grants.allowed) {
      for (const ceiling of ceilings) {
        const example = beyond(grant, grants, ceiling);
        if (!example) continue;
        const path = placeOf(spec.allow, projection.allow, grant, ceiling.field);
        const place = `${ceiling.field} ${path.join('.')}`;
        if (said.has(place)) continue;
        said.add(place);
        report(path, refusalText(ceiling.field, example, spec.mode));
      }
    }
  }
}

/** A request that the grant allows and the ceiling does not. */
function beyond(grant: Grant, { avoided }: Grants, ceiling: Ceiling): Witness | undefined {
  for (const { box, within } of ceiling.outside(grant.box)) {
    const example = find(box, within ? [...avoided, { layer: within }] : avoided);
    if (example) return example;
  }
  return undefined;
}

function refusalText(
  field: keyof BoundarySpec,
  { request }: Witness,
  mode: EgressPolicy['spec']['mode'],
): string {
  const mend =
    mode === 'enforce'
      ? 'name less here, or refuse that by a deny rule of this policy'
      : 'name less here (deny rules of a policy that only reports do not count)';
  return `refuses "${request}" by \`${field}\`, and this rule allows it: ${mend}`;
}

/** Where in the document the cause stands. */
function placeOf(
  rules: readonly AllowRuleSpec[],
  projections: readonly AllowProjection[],
  grant: Grant,
  field: keyof BoundarySpec,
): DocumentPath {
  const index = projections.indexOf(grant.rule);
  const rule = rules[index];
  const path: DocumentPath = ['spec', 'allow', index];
  const named = NAMED_BY[field].find((name) => rule?.[name] !== undefined) ?? 'id';
  const host = named === 'hosts' ? rule?.hosts?.indexOf(hostText(grant.box)) : undefined;
  return host === undefined ? [...path, named] : [...path, named, host];
}

/** The fields of a rule that a ceiling is about, the likeliest first. */
const NAMED_BY: Readonly<Record<keyof BoundarySpec, readonly (keyof AllowRuleSpec)[]>> = {
  neverHosts: ['hosts'],
  mayHosts: ['hosts', 'cidrs'],
  neverCidrs: ['cidrs'],
  mayPrivate: ['cidrs'],
  neverPorts: ['ports', 'scheme'],
  mayMethods: ['methods', 'datasource'],
  mayTunnel: ['protocols'],
  maxRate: [],
  maxExpiryDays: [],
  requireTests: [],
  mayLoopbackDatasources: [],
};

function hostText({ place }: Box): string {
  return place.kind === 'name' ? (place.pattern?.text ?? '') : '';
}

function checkRate({ limits }: AllowRuleSpec, { maxRate }: BoundarySpec, report: Report): void {
  if (maxRate === undefined) return;
  if (limits?.rate === undefined)
    return report(['id'], `wants a rate of at most ${maxRate} in \`limits\``);
  const [asked, most] = [rateOf(limits.rate), rateOf(maxRate)];
  if (asked.count * most.perMs > most.count * asked.perMs)
    report(['limits', 'rate'], `allows at most ${maxRate}`);
}

function checkExpiry(
  { expires }: Metadata,
  { maxExpiryDays }: BoundarySpec,
  nowMs: number,
  report: Report,
): void {
  if (maxExpiryDays === undefined) return;
  const wanted = `wants \`expires\` at most ${maxExpiryDays} days ahead (maxExpiryDays)`;
  if (expires === undefined) return report(['metadata', 'name'], wanted);
  const lastMs = endOfDayMs(expires) ?? 0;
  // The day that is running is not counted: who writes today plus as many days is in time all day.
  if (lastMs - DAY_MS > nowMs + maxExpiryDays * DAY_MS) report(['metadata', 'expires'], wanted);
}

const DAY_MS = 86_400_000;
