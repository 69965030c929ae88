import { neverViolations, type PolicyProblem, type PolicySet } from '#policies';
import { coverageProblems } from './coverage.ts';
import { problemOf, runCases } from './run-cases.ts';

/**
 * Runs every PolicyTest against a set, and says what does not hold: expectations of cases, `never` clauses, and the coverage that a
 * test demands. The result depends on the documents alone: tests see the policies before anything expires, and what report mode
 * would let through counts as refused.
 */
export function runPolicyTests(set: PolicySet): PolicyProblem[] {
  const results = runCases(set);
  return [...results.flatMap(problemOf), ...neverProblems(set), ...coverageProblems(set, results)];
}

/** The `never` clauses that do not hold, each with a request that shows it. */
export function neverProblems(set: PolicySet): PolicyProblem[] {
  return set.documents.tests.flatMap((test, index) =>
    neverViolations(set, test).map(({ path, message }) => ({
      kind: 'PolicyTest' as const,
      name: test.metadata.name,
      index,
      path,
      message,
    })),
  );
}
