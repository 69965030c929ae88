import { printable } from '#core/printable';
import { type PolicyProblem } from '#policies';
import {
  type CaseResult,
  coverageProblems,
  coverRules,
  isCovered,
  neverProblems,
  type ParsedPolicy,
  parseFiles,
  problemOf,
  type RuleCoverage,
  runCases,
} from '#policystore';
import { type Mutation, mutate } from '#policystore/review';
import {
  EXIT,
  type Io,
  isUnsound,
  onlyDirectory,
  type PolicyCommand,
  parseCommand,
  reportError,
  WrongUsage,
  wholeNumber,
  writeJson,
} from './command.ts';
import { readPolicy } from './source.ts';

/** `outrider policy test`: what the PolicyTests say, and what they would not notice. */
export const command: PolicyCommand = {
  usage: `DIR [--verbose] [--coverage PERCENT] [--mutate [--min-score PERCENT]] [--json]

Runs the PolicyTests of DIR, and says which rules they cover. An allow rule is covered by a case that it allows and one that it
nearly does: that misses it in one thing alone (method, path, port, ...), or that a deny rule or an address refuses. A deny rule
is covered by a case that it refuses.

  --verbose            name every case and every rule, not only what is wrong
  --coverage PERCENT   fail where fewer of the rules are covered
  --mutate             change the policies, one thing at a time, and see whether some case fails; a change that alters no
                       decision, and one that does not load, do not count
  --min-score PERCENT  fail where fewer of the changes are noticed (100 unless told)

DIR is a directory, or REV:PATH for one in a Git revision.
Exit: 0 everything holds; 1 a case fails, or there is less than was asked for; 2 the policy cannot be read, or wrong usage.
`,
  async run(argv, io) {
    const asked = parse(argv);
    const files = await readPolicy(asked.directory);
    try {
      return report(asked, judge(asked, parseFiles(files)), io);
    } catch (error) {
      if (!isUnsound(error)) throw error;
      reportError(error, asked.json, io);
      return EXIT.found;
    }
  },
};

interface Asked {
  readonly directory: string;
  readonly json: boolean;
  readonly verbose: boolean;
  readonly coverage: number;
  /** Undefined: no mutations. */
  readonly minScore: number | undefined;
}

function parse(argv: readonly string[]): Asked {
  const { values, positionals } = parseCommand(argv, {
    json: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
    coverage: { type: 'string', default: '0' },
    mutate: { type: 'boolean', default: false },
    'min-score': { type: 'string' },
  });
  const minScore = values['min-score'];
  if (minScore !== undefined && !values.mutate)
    throw new WrongUsage('--min-score is about --mutate: give both');
  return {
    directory: onlyDirectory(positionals),
    json: values.json,
    verbose: values.verbose,
    coverage: wholeNumber('coverage', values.coverage, 0, 100),
    minScore: values.mutate ? wholeNumber('min-score', minScore ?? '100', 0, 100) : undefined,
  };
}

/** Everything that the command has to say. */
interface Verdict {
  readonly results: readonly CaseResult[];
  /** As `file:line:column: what`. */
  readonly failures: readonly string[];
  readonly rules: readonly RuleCoverage[];
  readonly percent: number;
  readonly mutation: (MutationReport & { readonly score: number }) | undefined;
  readonly ok: boolean;
}

interface MutationReport {
  readonly noticed: number;
  readonly unnoticed: readonly (Omit<Mutation, 'problem'> & { readonly where: string })[];
  readonly alike: number;
  readonly unloadable: number;
}

function judge(asked: Asked, policy: ParsedPolicy): Verdict {
  const { set } = policy;
  const results = runCases(set);
  const line = (problem: PolicyProblem): string => {
    const { where, message } = policy.locate(problem);
    return `${where}: ${message}`;
  };
  const failures = [
    ...results.flatMap(problemOf),
    ...neverProblems(set),
    ...coverageProblems(set, results),
  ].map(line);
  const rules = coverRules(set, results);
  const covered = rules.filter(isCovered).length;
  const percent = rules.length === 0 ? 100 : Math.floor((covered * 100) / rules.length);
  // Where cases fail already, a change that fails them says nothing.
  const mutation =
    asked.minScore === undefined || failures.length > 0 ? undefined : mutations(policy);
  const ok =
    failures.length === 0 &&
    percent >= asked.coverage &&
    (mutation === undefined || mutation.score >= (asked.minScore ?? 0));
  return { results, failures, rules, percent, mutation, ok };
}

function mutations(policy: ParsedPolicy): Verdict['mutation'] {
  const { noticed, unnoticed, alike, unloadable } = mutate(policy.documents, policy.set);
  const shown = unnoticed.map(({ problem, ...one }) => ({
    ...one,
    where: policy.locate(problem).where,
  }));
  const counted = noticed + shown.length;
  const score = counted === 0 ? 100 : Math.floor((noticed * 1000) / counted) / 10;
  return { noticed, unnoticed: shown, alike, unloadable, score };
}

function report(asked: Asked, verdict: Verdict, { out }: Io): number {
  if (asked.json) writeJson(out, asJson(verdict));
  else for (const line of linesOf(asked, verdict)) out.write(`${printable(line)}\n`);
  return verdict.ok ? EXIT.fine : EXIT.found;
}

function asJson({ results, failures, rules, percent, mutation, ok }: Verdict): object {
  return {
    ok,
    cases: results.length,
    failures,
    coverage: {
      percent,
      rules: rules.map((rule) => ({ ...rule, covered: isCovered(rule) })),
    },
    ...(mutation ? { mutation } : {}),
  };
}

function linesOf(asked: Asked, { results, failures, rules, percent, mutation }: Verdict): string[] {
  const covered = rules.filter(isCovered).length;
  return [
    ...(asked.verbose ? results.map(caseLine) : []),
    ...failures,
    `${results.length - results.filter(({ failure }) => failure).length} of ${results.length} cases hold`,
    ...rules.filter((rule) => asked.verbose || !isCovered(rule)).map(ruleLine),
    `${covered} of ${rules.length} rules are covered (${percent} %)`,
    ...(mutation ? mutationLines(mutation) : []),
    ...(asked.minScore !== undefined && !mutation
      ? ['no changes were tried: the cases must hold first']
      : []),
  ];
}

function caseLine({ test, case: one, failure }: CaseResult): string {
  return `${failure === undefined ? 'ok  ' : 'FAIL'} ${test.metadata.name}: ${one.name}`;
}

function ruleLine(rule: RuleCoverage): string {
  const { policy, rule: id, effect, hit, nearMiss } = rule;
  if (isCovered(rule)) return `covered      ${policy}/${id}`;
  const wants = [
    ...(hit ? [] : [effect === 'allow' ? 'a case that it allows' : 'a case that it refuses']),
    ...(nearMiss ? [] : ['a case that it nearly allows']),
  ];
  return `not covered  ${policy}/${id}: wants ${wants.join(' and ')}`;
}

function mutationLines({
  noticed,
  unnoticed,
  alike,
  unloadable,
  score,
}: NonNullable<Verdict['mutation']>): string[] {
  return [
    ...unnoticed.flatMap(unnoticedLines),
    `${noticed} of ${noticed + unnoticed.length} changes are noticed: mutation score ${score} % (${alike} change no decision, ${unloadable} do not load)`,
  ];
}

function unnoticedLines({
  where,
  change,
  example,
  as,
}: MutationReport['unnoticed'][number]): string[] {
  const first = `${where}: not noticed: ${change}`;
  if (example === null)
    return [first, `    (as ${as}) no case asks for what that would let through`];
  const { request, resolve, verdict } = example;
  const at = resolve ? `resolve: ${JSON.stringify(resolve)}, ` : '';
  const one = `{request: ${JSON.stringify(request)}, ${at}expect: {verdict: ${verdict}}}`;
  return [first, `    a case that would (as ${as}): ${one}`];
}
