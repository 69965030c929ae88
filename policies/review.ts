/** For those who review policies. Whoever only decides need not load it. */
export type { ChangeKind, PolicyChange } from './change.ts';
export { diffPolicySets } from './diff.ts';
export { type Explanation, explain, type RuleExplanation } from './explain.ts';
export { type Mutant, mutants } from './mutants.ts';
