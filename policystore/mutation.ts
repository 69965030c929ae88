import { OutriderError } from '#core/errors';
import {
  compilePolicySet,
  type PolicyDocuments,
  type PolicyProblem,
  type PolicySet,
} from '#policies';
import { diffPolicySets, type Mutant, mutants, type PolicyChange } from '#policies/review';
import { neverProblems } from './policy-tests.ts';
import { decideCase, runCases } from './run-cases.ts';

/** A mistake in the policies that no case notices, and a case that would. */
export interface Mutation {
  readonly change: string;
  /** Where it would stand. Its message is `change`. */
  readonly problem: PolicyProblem;
  /** As whom a case would notice it. */
  readonly as: string;
  /**
   * What such a case asks, and what it expects of the policies as they are; null where the mistake is in what the words of queries
   * may say (labels, tables, keys): only a person knows such a query.
   */
  readonly example: {
    readonly request: string;
    readonly resolve?: readonly string[];
    readonly verdict: 'allow' | 'deny';
  } | null;
}

/** What came of all mistakes. The score is `noticed` of `noticed` and `unnoticed`. */
export interface MutationScore {
  readonly noticed: number;
  readonly unnoticed: readonly Mutation[];
  /** Mistakes after which requests get what they got before, as far as the examples of the difference show. */
  readonly alike: number;
  /** Mistakes that are a load error, such as a rule beyond a Boundary. */
  readonly unloadable: number;
}

/**
 * Makes every mistake of `mutants` once, and looks whether some case or
 * `never` clause of the PolicyTests fails. All must hold before.
 * Costs a compilation a mistake: for sets that a person reviews, not for thousands of rules.
 */
export function mutate(documents: PolicyDocuments, set: PolicySet): MutationScore {
  const unnoticed: Mutation[] = [];
  let [noticed, alike, unloadable] = [0, 0, 0];
  for (const mutant of mutants(documents)) {
    const changed = compiled(mutant);
    if (!changed) unloadable += 1;
    else if (isNoticed(changed)) noticed += 1;
    else {
      const difference = diffPolicySets(set, changed).find((one) => isVisible(set, changed, one));
      if (difference) unnoticed.push(mutationOf(documents, mutant, difference));
      else alike += 1;
    }
  }
  return { noticed, unnoticed, alike, unloadable };
}

function compiled({ documents }: Mutant): PolicySet | undefined {
  try {
    return compilePolicySet(documents, 'mutant');
  } catch (error) {
    if (error instanceof OutriderError && error.code === 'POLICY_INVALID') return undefined;
    throw error;
  }
}

function isNoticed(set: PolicySet): boolean {
  return (
    runCases(set).some(({ failure }) => failure !== undefined) || neverProblems(set).length > 0
  );
}

/** Whether a case could tell the difference: limits and the like are not for cases to see. */
function isVisible(set: PolicySet, changed: PolicySet, change: PolicyChange): boolean {
  if (change.change === 'guard' || change.change === 'credential') return true;
  if (change.change !== 'allowed' && change.change !== 'denied') return false;
  // What a rule lets through may still be refused for the words of the query, or the lack of them.
  const [before, after] = [set, changed].map((one) => verdictOf(one, change));
  return before !== after;
}

function verdictOf(set: PolicySet, { subject, phase, example, resolve }: PolicyChange): string {
  const role = subject.role ?? [...set.roles.keys()][0] ?? '';
  const as = { role, tenant: subject.tenant ?? '', phase: phase ?? 'run' };
  return decideCase(set, as, example, { resolve: listOf(resolve) }).outcome.verdict;
}

function mutationOf(
  documents: PolicyDocuments,
  { change, index, path }: Mutant,
  { subject, phase, change: kind, example, resolve }: PolicyChange,
): Mutation {
  const name = documents.egressPolicies[index]?.metadata.name ?? '';
  const who = [
    subject.role ?? 'any role',
    ...(subject.tenant === null ? [] : [`of ${subject.tenant}`]),
    ...(phase === 'install' ? ['while installing'] : []),
  ];
  const verdict = kind === 'allowed' ? 'deny' : 'allow';
  const at = listOf(resolve);
  return {
    change,
    problem: { kind: 'EgressPolicy', name, index, path, message: change },
    as: who.join(' '),
    example:
      kind === 'guard' ? null : { request: example, ...(at ? { resolve: at } : {}), verdict },
  };
}

function listOf(address: string | undefined): readonly string[] | undefined {
  return address === undefined ? undefined : [address];
}
