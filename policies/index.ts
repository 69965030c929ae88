export {
  accountOf,
  type Budget,
  type BudgetCounter,
  Budgets,
  type Spender,
  type Spending,
} from './budget.ts';
export { canonicalJson } from './canonical-json.ts';
export {
  CLIENT_HELLO_MAX,
  type ClientHello,
  type Hello,
  helloRefusal,
  readClientHello,
} from './client-hello.ts';
export {
  copySource,
  type DatasourceCall,
  type Inspection,
  inspectDatasource,
  s3ShapeRefusal,
  signedBefore,
} from './datasource/index.ts';
export { type AllowDecision, type Decision, type DenyDecision, decide } from './decide.ts';
export {
  dependencyRefusal,
  isPackageName,
  PACKAGE_MANAGERS,
  packageName,
} from './dependency.ts';
export type * from './document.ts';
export type { Endpoint } from './endpoint.ts';
export {
  addressRefusal,
  type DatasourceGrant,
  grantDatasource,
  grantTokenEndpoint,
  probeGrant,
  type TokenEndpointGrant,
} from './grant.ts';
export { grantedDatasources, type ListedDatasource } from './granted-datasources.ts';
export { type Host, parseHost } from './host.ts';
export { inspectAllowed } from './inspect-allowed.ts';
export { interceptedHosts, requestProtocol, spokenTo } from './interception.ts';
export { formatIp, parseIp } from './ip.ts';
export { classifyIp, type IpClass } from './ip-class.ts';
export { type Dimension, type Miss, missesOfAllow } from './misses.ts';
export { type Near, nearTo } from './near.ts';
export { type NeverViolation, neverViolations } from './never.ts';
export { parseProjection } from './parse-projection.ts';
export { formParameters, type Path, parsePath } from './path.ts';
export { authorize, type Permit } from './permit.ts';
export {
  compilePolicySet,
  credentialOf,
  datasourceOf,
  mayInstall,
  type PolicySet,
  projectRole,
  rolePolicy,
} from './policy-set.ts';
export type { DocumentPath, PolicyProblem } from './problem.ts';
export type {
  AllowProjection,
  BoundaryProjection,
  DatasourceRef,
  DenyProjection,
  Guard,
  Limits,
  PolicyProjection,
  RoleProjection,
} from './projection.ts';
export { type NamedQuota, rateLimitFields } from './rate-limit-fields.ts';
export { type Family, isReason, REASONS, type Reason, type ReasonInfo } from './reason.ts';
export { programTarget, requestTarget } from './request-line.ts';
export {
  chooseRole,
  DEFAULT_TIMEOUT_MS,
  hasRole,
  rolesOf,
  type SandboxBounds,
  sandboxBounds,
} from './role.ts';
export { type AllowRule, compileRole, type DenyRule, type RolePolicy } from './role-policy.ts';
export { type Place, type Quota, RuleLimits, stricterLimits } from './rule-limits.ts';
export {
  aliasHost,
  aliasTarget,
  type Canonical,
  type DatasourceTarget,
  type HostTarget,
  hostTarget,
  originForm,
  type RequestProtocol,
  splitAbsoluteForm,
  spokenIn,
  type Target,
  type TunnelTarget,
  targetAuthority,
  targetText,
  tunnelTarget,
} from './target.ts';
export { allowsArguments, argumentRules, toolName } from './tool-spec.ts';
export { type RateValue, rateOf } from './units.ts';
