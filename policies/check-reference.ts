import { nearest } from '#core/nearest';
import type { Checked } from './checked.ts';
import type { EgressPolicy, PolicyDocuments, PolicyTest } from './document.ts';
import { parseIp } from './ip.ts';
import { isReason, REASONS } from './reason.ts';

/** Every name that one document uses of another must be there. */
export function checkReferences(
  documents: PolicyDocuments,
  checked: {
    readonly policies: readonly Checked<EgressPolicy>[];
    readonly tests: readonly Checked<PolicyTest>[];
  },
): void {
  const roles = new Set(documents.roles.map(({ metadata }) => metadata.name));
  const credentials = new Set(documents.credentialBindings.map(({ metadata }) => metadata.name));
  const datasources = new Set(
    documents.datasources.map(({ metadata, spec }) => `${spec.type}/${metadata.name}`),
  );
  const installing = new Set(
    documents.roles
      .filter(({ spec }) => spec.sandbox.dependencies)
      .map(({ metadata }) => metadata.name),
  );
  const tested = new Set(documents.tests.map(({ spec }) => spec.as.role));
  const mustTest = documents.boundaries.some(({ spec }) => spec.requireTests === true);

  for (const { document, report } of checked.policies) {
    const { subjects, allow, deny = [], phase } = document.spec;
    for (const [index, { role }] of subjects.entries()) {
      if (role === undefined) continue;
      const path = ['spec', 'subjects', index, 'role'];
      const missing = unknown('Role', role, roles);
      if (missing !== undefined) report(path, missing);
      else if (mustTest && !tested.has(role))
        report(path, `the Boundary requires a PolicyTest as the role "${role}"`);
      else if (phase === 'install' && !installing.has(role))
        report(path, `the role "${role}" may install nothing: it has no spec.sandbox.dependencies`);
    }
    for (const [index, rule] of allow.entries()) {
      const path = ['spec', 'allow', index];
      const credential =
        rule.credential === undefined
          ? undefined
          : unknown('CredentialBinding', rule.credential, credentials);
      if (credential !== undefined) report([...path, 'credential'], credential);
      const datasource =
        rule.datasource === undefined
          ? undefined
          : unknown('Datasource', rule.datasource, datasources);
      if (datasource !== undefined) report([...path, 'datasource'], datasource);
    }
    for (const [index, { datasource }] of deny.entries()) {
      const missing =
        datasource === undefined ? undefined : unknown('Datasource', datasource, datasources);
      if (missing !== undefined) report(['spec', 'deny', index, 'datasource'], missing);
    }
  }

  for (const { document, report } of checked.tests) {
    const missing = unknown('Role', document.spec.as.role, roles);
    if (missing !== undefined) report(['spec', 'as', 'role'], missing);
    for (const [index, { datasource }] of (document.spec.never ?? []).entries()) {
      const lost =
        datasource === undefined ? undefined : unknown('Datasource', datasource, datasources);
      if (lost !== undefined) report(['spec', 'never', index, 'datasource'], lost);
    }
    for (const [index, { expect, resolve = [] }] of document.spec.cases.entries()) {
      // A name leads to no such thing, so that a case which expects a refusal would hold and prove nothing.
      for (const [at, text] of resolve.entries())
        if (!parseIp(text))
          report(['spec', 'cases', index, 'resolve', at], 'this must be an IP address');
      if (expect.reason === undefined || isReason(expect.reason)) continue;
      report(
        ['spec', 'cases', index, 'expect', 'reason'],
        `no refusal has this reason${hint(expect.reason, Object.keys(REASONS))}`,
      );
    }
  }
}

function unknown(kind: string, name: string, known: ReadonlySet<string>): string | undefined {
  return known.has(name) ? undefined : `there is no ${kind} "${name}"${hint(name, [...known])}`;
}

function hint(word: string, known: readonly string[]): string {
  const meant = nearest(word, known);
  return meant === undefined ? '' : ` (did you mean "${meant}"?)`;
}
