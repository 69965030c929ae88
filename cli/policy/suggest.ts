import { printable } from '#core/printable';
import type { Phase } from '#policies';
import { type ParsedPolicy, parseFiles, problemOf, runCases } from '#policystore';
import { type NotSuggested, type Refused, type Suggestion, suggest } from '#policystore/review';
import { type AuditRequest, auditFiles, auditRequests } from './audit-requests.ts';
import {
  EXIT,
  type Io,
  type PolicyCommand,
  parseCommand,
  WrongUsage,
  writeJson,
} from './command.ts';
import { readPolicy } from './source.ts';
import { type Source, suggestedYaml } from './suggest-yaml.ts';

/** `outrider policy suggest`: from what was refused to the rules that would have allowed it. */
export const command: PolicyCommand = {
  usage: `DIR AUDIT... [--role R]... [--generalise] [--phase run|install] [--json]

Reads audit files (or every *.jsonl of a directory) and prints the smallest addition to the policies of DIR, inside every
Boundary, that would have allowed what was refused, and what report mode would have refused: EgressPolicies and PolicyTests
as YAML, to be reviewed and put beside the others. Each rule names the very hosts, ports, methods and paths that were asked for,
says by which lines of the audit, and which existing rule comes near. What no rule can mend is listed with the reason.

  --role R       only what programs of this role asked for; may be given several times
  --generalise   a segment of paths that had three values or more becomes *
  --phase        install: the audit is of dependencies being installed (records do not say)

DIR is a directory, or REV:PATH for one in a Git revision. An opaque tunnel is suggested where a program asked for one: nobody
looks into it, so a rule with methods and paths is better where you know them.
Exit: 0 there is nothing to suggest; 1 there is; 2 something cannot be read, or wrong usage.
`,
  async run(argv, io) {
    const asked = parse(argv);
    const files = await readPolicy(asked.directory);
    const policy = parseFiles(files);
    const requests = refusedRequests(asked);
    const suggestion = suggest(policy.set, requests, asked);
    const text = suggestedYaml(policy.set, suggestion, asked.phase, new Date());
    report(asked, suggestion, text, contradicted(policy, files, text), io);
    return suggestion.policies.length > 0 ? EXIT.found : EXIT.fine;
  },
};

interface Asked {
  readonly directory: string;
  readonly audit: readonly string[];
  readonly roles: readonly string[];
  readonly generalise: boolean;
  readonly phase: Phase;
  readonly json: boolean;
}

function parse(argv: readonly string[]): Asked {
  const { values, positionals } = parseCommand(argv, {
    json: { type: 'boolean', default: false },
    generalise: { type: 'boolean', default: false },
    role: { type: 'string', multiple: true, default: [] },
    phase: { type: 'string', default: 'run' },
  });
  const [directory, ...audit] = positionals;
  if (directory === undefined || audit.length === 0)
    throw new WrongUsage('which policies and which audit? DIR and one AUDIT or several');
  const { phase } = values;
  if (phase !== 'run' && phase !== 'install')
    throw new WrongUsage('which phase? --phase run, or install');
  return {
    directory,
    audit: audit.flatMap(auditFiles),
    roles: values.role,
    generalise: values.generalise,
    phase,
    json: values.json,
  };
}

/** What was refused, each once, with every line that says so. Sidecar and proxy both record what the proxy refused. */
function refusedRequests({ audit, roles }: Asked): Refused<Source>[] {
  const found = new Map<string, Refused<Source> & { readonly sources: Source[] }>();
  const seen = new Set<string>();
  for (const record of auditRequests(audit)) {
    if (record.verdict !== 'deny' && !record.reported) continue;
    if (record.role === '' || (roles.length > 0 && !roles.includes(record.role))) continue;
    if (record.egressId !== '' && seen.has(record.egressId)) continue;
    seen.add(record.egressId);
    const { role, tenant, reason } = record;
    const request = withoutQuery(record);
    const key = JSON.stringify([role, tenant, request, reason]);
    const known = found.get(key) ?? { role, tenant, request, reason, sources: [] };
    known.sources.push({ file: record.file, line: record.line });
    found.set(key, known);
  }
  return [...found.values()];
}

/** Suggestions say nothing of queries. What is not known whole is no request, and is answered so. */
function withoutQuery({ request = '' }: AuditRequest): string {
  const mark = request.indexOf('?');
  return mark === -1 ? request : request.slice(0, mark);
}

/** The test cases that say the opposite of the suggestion, as `file:line:column: what`. */
function contradicted(
  policy: ParsedPolicy,
  files: Parameters<typeof parseFiles>[0],
  yaml: string,
): string[] {
  if (yaml === '') return [];
  const failed = new Set(failures(policy).map(({ message }) => message));
  const after = parseFiles([...files, { name: 'suggested.yaml', text: yaml }]);
  return failures(after)
    .filter(({ message }) => !failed.has(message))
    .map(({ where, message }) => `${where}: ${message}`);
}

function failures(policy: ParsedPolicy) {
  return runCases(policy.set).flatMap(problemOf).map(policy.locate);
}

function report(
  asked: Asked,
  { policies, not }: Suggestion<Source>,
  yaml: string,
  contradictions: readonly string[],
  { out }: Io,
): void {
  if (asked.json) {
    writeJson(out, {
      ok: policies.length === 0,
      policies,
      yaml,
      contradicts: contradictions,
      notSuggested: not.map(({ refused, kind, why }) => ({ ...refused, kind, why })),
    });
    return;
  }
  out.write(yaml);
  const lines = [
    ...(policies.length === 0 ? ['Nothing to suggest.'] : []),
    ...section(
      'These test cases say the opposite; change them only if you mean it:',
      contradictions,
    ),
    ...section('No rule is suggested for:', not.map(notLine)),
  ];
  for (const line of lines) out.write(`${printable(`# ${line}`).trimEnd()}\n`);
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [title, ...lines.map((line) => `  ${line}`)];
}

function notLine({ refused, why }: NotSuggested<Source>): string {
  const { role, request, sources } = refused;
  const [first] = sources;
  const where = first
    ? ` (${first.file}:${first.line}${sources.length > 1 ? `, ${sources.length} times` : ''})`
    : '';
  return `${role}: ${request || 'a request that the audit does not hold whole'}: ${why}${where}`;
}
