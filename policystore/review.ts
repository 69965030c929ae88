/** For those who review policies. Whoever only loads them need not load it. */
export { type Mutation, type MutationScore, mutate } from './mutation.ts';
export { type Replay, type Replayed, Simulation } from './simulate.ts';
export {
  type NotSuggested,
  type Refused,
  type SuggestedPolicy,
  type SuggestedRule,
  type Suggestion,
  suggest,
} from './suggest.ts';
