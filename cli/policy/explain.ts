import { OutriderError } from '#core/errors';
import { nearest } from '#core/nearest';
import { printable } from '#core/printable';
import {
  chooseRole,
  type Decision,
  type Phase,
  type PolicySet,
  parseIp,
  REASONS,
  requestTarget,
  rolePolicy,
  targetText,
} from '#policies';
import { explain, type RuleExplanation } from '#policies/review';
import { evaluate } from '#policystore';
import {
  EXIT,
  type Io,
  onlyDirectory,
  type PolicyCommand,
  parseCommand,
  reportError,
  WrongUsage,
  writeJson,
} from './command.ts';
import { loadPolicy } from './source.ts';

/** `outrider policy explain`: what would become of one request, and why. */
export const command: PolicyCommand = {
  usage: `DIR --request "GET https://host/path"
                               (--role R | --issuer I --subject S [--group G]... [--claim N=V]...)
                               [--tenant T] [--phase run|install] [--resolve IP]... [--body TEXT] [--json]

Says what would become of a request, by which rule, and why each other rule does not apply.
A request is "GET https://host/path", "CONNECT host:443" or "GET /<type>/<name>/path".

  --role R         as this role; with --issuer: the one asked for among several
  --issuer I       as the principal of this issuer, with --subject, --group and --claim, whose role the Roles say
  --tenant T       of this tenant
  --phase install  while dependencies are installed
  --resolve IP     an address that the name, or the datasource's endpoint, leads to
  --body TEXT      what is sent to a datasource: SQL, or a form

DIR is a directory, or REV:PATH for one in a Git revision.
Exit: 0 allowed; 1 refused, or no such role; 2 the policy cannot be read, or wrong usage.
`,
  async run(argv, io) {
    const asked = parse(argv);
    const { set } = await loadPolicy(asked.directory);
    try {
      return answer(asked, set, io);
    } catch (error) {
      const noRole =
        error instanceof OutriderError && ['ROLE_DENIED', 'ROLE_AMBIGUOUS'].includes(error.code);
      if (!noRole) throw error;
      reportError(error, asked.json, io);
      return EXIT.found;
    }
  },
};

interface Asked {
  readonly directory: string;
  readonly json: boolean;
  readonly role: string | undefined;
  readonly issuer: string | undefined;
  readonly subject: string;
  readonly groups: readonly string[];
  readonly claims: Readonly<Record<string, string>>;
  readonly tenant: string;
  readonly phase: Phase;
  readonly request: string;
  readonly resolve: readonly string[];
  readonly body: string | undefined;
}

function parse(argv: readonly string[]): Asked {
  const { values, positionals } = parseCommand(argv, {
    json: { type: 'boolean', default: false },
    role: { type: 'string' },
    issuer: { type: 'string' },
    subject: { type: 'string' },
    group: { type: 'string', multiple: true, default: [] },
    claim: { type: 'string', multiple: true, default: [] },
    tenant: { type: 'string', default: '' },
    phase: { type: 'string', default: 'run' },
    request: { type: 'string' },
    resolve: { type: 'string', multiple: true, default: [] },
    body: { type: 'string' },
  });
  const directory = onlyDirectory(positionals);
  const { json, role, issuer, subject, group, claim, tenant, phase, request, resolve, body } =
    values;
  if (request === undefined)
    throw new WrongUsage('which request? --request "GET https://host/path"');
  if (role === undefined && (issuer === undefined || subject === undefined))
    throw new WrongUsage('as whom? --role R, or --issuer I and --subject S');
  if (phase !== 'run' && phase !== 'install')
    throw new WrongUsage('which phase? --phase run, or install');
  for (const text of resolve)
    if (!parseIp(text)) throw new WrongUsage(`--resolve ${text}: must be an IP address`);
  return {
    directory,
    json,
    role,
    issuer,
    subject: subject ?? '',
    groups: group,
    claims: Object.fromEntries(claim.map(parseClaim)),
    tenant,
    phase,
    request,
    resolve,
    body,
  };
}

function parseClaim(text: string): [string, string] {
  const equals = text.indexOf('=');
  if (equals < 1) throw new WrongUsage(`--claim ${text}: must be NAME=VALUE`);
  return [text.slice(0, equals), text.slice(equals + 1)];
}

function answer(asked: Asked, set: PolicySet, { out }: Io): number {
  const nowMs = Date.now();
  const role = roleOf(asked, set, nowMs);
  const compiled = rolePolicy(set, role, asked.tenant, asked.phase);
  const canonical = requestTarget(asked.request);
  const { target, decision } = canonical.ok
    ? evaluate(set, compiled, canonical.target, asked, nowMs)
    : { target: undefined, decision: malformed(canonical.reason) };
  const rules = target ? explain(compiled, target, nowMs).rules : [];
  const text = target ? targetText(target) : null;
  if (asked.json) writeJson(out, { role, tenant: asked.tenant, target: text, decision, rules });
  else {
    out.write(`${verdictLine(decision)}\n`);
    out.write(`  role    ${role}${asked.tenant === '' ? '' : `, tenant ${asked.tenant}`}\n`);
    out.write(`  target  ${text ?? printable(asked.request)}\n`);
    for (const rule of rules) out.write(`  ${printable(ruleLine(rule))}\n`);
  }
  return decision.verdict === 'allow' ? EXIT.fine : EXIT.found;
}

/** @throws {OutriderError} ROLE_DENIED, ROLE_AMBIGUOUS */
function roleOf(asked: Asked, set: PolicySet, nowMs: number): string {
  const { role, issuer, subject, groups, claims, tenant } = asked;
  if (issuer !== undefined) {
    const principal = { issuer, subject, tenant, groups, claims };
    return chooseRole(set, principal, role ?? '', nowMs).metadata.name;
  }
  const name = role ?? '';
  if (set.roles.has(name)) return name;
  const meant = nearest(name, set.roles.keys());
  const hint = meant === undefined ? '' : ` (did you mean "${meant}"?)`;
  throw new OutriderError('ROLE_DENIED', `there is no role "${name}"${hint}`);
}

function malformed(reason: keyof typeof REASONS): Decision {
  return { verdict: 'deny', reason, rule: null, policy: null };
}

function verdictLine(decision: Decision): string {
  if (decision.verdict === 'deny') {
    const by = decision.rule === null ? '' : ` by ${decision.rule}`;
    return `deny${by}: ${decision.reason} (${REASONS[decision.reason].text})`;
  }
  const { rule, policy: name, credential, intercept, reported } = decision;
  const extras = [
    ...(credential === null ? [] : [`credential ${credential}`]),
    ...(intercept ? ['TLS is intercepted and each request decided for itself'] : []),
    ...(reported ? [`only reported: ${reported.reason}`] : []),
  ];
  return `allow by ${rule} of ${name}${extras.length === 0 ? '' : ` (${extras.join('; ')})`}`;
}

function ruleLine({ policy: name, rule, effect, applies, reason, text }: RuleExplanation): string {
  const state = applies ? 'applies' : 'does not apply';
  return `${effect.padEnd(5)}   ${name}/${rule} ${state}: ${text}${reason === null || effect === 'deny' ? '' : ` (${reason})`}`;
}
