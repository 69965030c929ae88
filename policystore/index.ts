export {
  type Bundle,
  type Canary,
  type Edition,
  openBundle,
  type Revision,
  sealBundle,
  stableEdition,
} from './bundle.ts';
export { keyId, readBundleKey, readTrustedKeys, type TrustedKey } from './bundle-keys.ts';
export { configuredPolicies, policyFilesAt } from './config.ts';
export { coverageProblems, coverRules, isCovered, type RuleCoverage } from './coverage.ts';
export { digestOf, sortedDocuments } from './digest.ts';
export { type Evaluation, evaluate } from './evaluate.ts';
export { directoryFiles, type PolicyFile, type PolicyFiles } from './files.ts';
export type { PolicyCanary, PolicyInForce, PolicyReload } from './in-force.ts';
export {
  type LoadedPolicy,
  loadDirectory,
  loadFiles,
  type ParsedPolicy,
  parseFiles,
} from './load.ts';
export { neverProblems } from './policy-tests.ts';
export { type PolicySource, type Release, type ReleasedFiles, readBundleText } from './release.ts';
export { policyRecord, readyPolicy } from './report.ts';
export { type CaseResult, decideCase, type Outcome, problemOf, runCases } from './run-cases.ts';
export type { Finding } from './source.ts';
export { PolicyStore, type PolicyStoreOptions } from './store.ts';
