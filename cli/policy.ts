import { parseArgs } from 'node:util';
import { OutriderError } from '#core/errors';
import {
  chooseRole,
  type Decision,
  explain,
  type Phase,
  type PolicySet,
  REASONS,
  type RuleExplanation,
  requestTarget,
  rolePolicy,
  targetText,
} from '#policies';
import { evaluate, type LoadedPolicy, loadDirectory } from '#policystore';

const USAGE = `usage: outrider policy check DIR [--json]
       outrider policy explain DIR (--role R | --issuer I --subject S [--group G]...) [--tenant T]
                               [--phase run|install]
                               --request "GET https://host/path" [--resolve IP]... [--json]

check    reads every policy document of DIR, checks each and all together, and runs the PolicyTests.
explain  says what would become of a request, by which rule, and why each other rule does not apply.
         A request is "GET https://host/path", "CONNECT host:443" or "GET /<type>/<name>/path".
Exit: 0 the policy is sound, or the request allowed; 1 it is not; 2 wrong usage.
`;

/** Verbs that the language will have. */
const LATER = ['test', 'diff', 'bundle', 'suggest', 'simulate', 'init'];

/**
 * `outrider policy`: 0 where the policy is sound or the request allowed, 1 where it is not, 2 for wrong usage. Answers go to
 * `out`, with `--json` as one JSON object; what is wrong with the call or the policy goes to `err`.
 */
export async function policy(
  argv: readonly string[],
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<number> {
  const asked = parse(argv);
  if (typeof asked === 'string') {
    err.write(asked === '' ? USAGE : `${asked}\n\n${USAGE}`);
    return 2;
  }
  try {
    const loaded = await loadDirectory(asked.directory);
    return asked.verb === 'check'
      ? check(asked, loaded, out)
      : explainRequest(asked, loaded.set, out);
  } catch (error) {
    if (!(error instanceof OutriderError)) throw error;
    if (asked.json) out.write(`${JSON.stringify(failure(error))}\n`);
    else err.write(`${error.message}\n`);
    return 1;
  }
}

interface Check {
  readonly verb: 'check';
  readonly directory: string;
  readonly json: boolean;
}

interface Explain {
  readonly verb: 'explain';
  readonly directory: string;
  readonly json: boolean;
  readonly role: string | undefined;
  readonly issuer: string;
  readonly subject: string;
  readonly groups: readonly string[];
  readonly tenant: string;
  readonly phase: Phase;
  readonly request: string;
  readonly resolve: readonly string[];
}

function parse(argv: readonly string[]): Check | Explain | string {
  const [verb, ...rest] = argv;
  if (verb === undefined || verb === '--help') return '';
  if (LATER.includes(verb)) return `\`outrider policy ${verb}\` is not in this version`;
  if (verb !== 'check' && verb !== 'explain') return `there is no \`outrider policy ${verb}\``;
  try {
    const { values, positionals } = parseArgs({
      args: rest,
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        ...(verb === 'check' ? {} : EXPLAIN_OPTIONS),
      },
    });
    const [directory, ...more] = positionals;
    if (directory === undefined || more.length > 0) return 'which directory? Exactly one';
    const { json } = values;
    return verb === 'check' ? { verb, directory, json } : explainOf(values, directory, json);
  } catch (error) {
    return error instanceof Error ? error.message : 'wrong usage';
  }
}

const EXPLAIN_OPTIONS = {
  role: { type: 'string' },
  issuer: { type: 'string' },
  subject: { type: 'string' },
  group: { type: 'string', multiple: true },
  tenant: { type: 'string' },
  phase: { type: 'string' },
  request: { type: 'string' },
  resolve: { type: 'string', multiple: true },
} as const;

function explainOf(
  values: Readonly<Record<string, unknown>>,
  directory: string,
  json: boolean,
): Explain | string {
  const text = (name: string): string | undefined => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  const list = (name: string): string[] => {
    const value = values[name];
    return Array.isArray(value) ? value.map(String) : [];
  };
  const [role, issuer, subject, request] = ['role', 'issuer', 'subject', 'request'].map(text);
  if (request === undefined) return 'which request? --request "GET https://host/path"';
  if (role === undefined && (issuer === undefined || subject === undefined)) {
    return 'as whom? --role R, or --issuer I and --subject S';
  }
  const phase = text('phase') ?? 'run';
  if (phase !== 'run' && phase !== 'install') return 'which phase? --phase run, or install';
  return {
    verb: 'explain',
    directory,
    json,
    role,
    issuer: issuer ?? '',
    subject: subject ?? '',
    groups: list('group'),
    tenant: text('tenant') ?? '',
    phase,
    request,
    resolve: list('resolve'),
  };
}

function check(
  { json }: Check,
  { digest, files, documents }: LoadedPolicy,
  out: NodeJS.WritableStream,
): number {
  const counts = {
    documents: Object.values(documents).reduce((sum, list) => sum + list.length, 0),
    files: files.length,
    testCases: documents.tests.reduce((sum, { spec }) => sum + spec.cases.length, 0),
  };
  if (json) out.write(`${JSON.stringify({ ok: true, digest, ...counts })}\n`);
  else {
    out.write(
      `ok: ${counts.documents} documents in ${counts.files} files, ${counts.testCases} test cases passed\ndigest ${digest}\n`,
    );
  }
  return 0;
}

function explainRequest(asked: Explain, set: PolicySet, out: NodeJS.WritableStream): number {
  const nowMs = Date.now();
  const role = roleOf(asked, set, nowMs);
  const compiled = rolePolicy(set, role, asked.tenant, asked.phase);
  const canonical = requestTarget(asked.request);
  const { target, decision } = canonical.ok
    ? evaluate(set, compiled, canonical.target, asked.resolve, nowMs)
    : { target: undefined, decision: malformed(canonical.reason) };
  const rules = target ? explain(compiled, target, nowMs).rules : [];
  if (asked.json) {
    const text = target ? targetText(target) : null;
    out.write(`${JSON.stringify({ role, tenant: asked.tenant, target: text, decision, rules })}\n`);
  } else {
    out.write(`${verdictLine(decision)}\n`);
    out.write(`  role    ${role}${asked.tenant === '' ? '' : `, tenant ${asked.tenant}`}\n`);
    out.write(`  target  ${target ? targetText(target) : asked.request}\n`);
    for (const rule of rules) out.write(`  ${ruleLine(rule)}\n`);
  }
  return decision.verdict === 'allow' ? 0 : 1;
}

/** @throws {OutriderError} ROLE_DENIED, ROLE_AMBIGUOUS */
function roleOf(asked: Explain, set: PolicySet, nowMs: number): string {
  const { role, issuer, subject, groups, tenant } = asked;
  if (role !== undefined && issuer === '') {
    if (set.roles.has(role)) return role;
    throw new OutriderError('ROLE_DENIED', `there is no role "${role}"`);
  }
  const principal = { issuer, subject, tenant, groups, claims: {} };
  return chooseRole(set, principal, role ?? '', nowMs).metadata.name;
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

function failure({ code, message }: OutriderError): object {
  return { ok: false, code, problems: message.split('\n') };
}
