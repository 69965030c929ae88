import type { AllowDecision, RateValue, Target } from '#policies';
import type { Caller } from '../authority.ts';
import type { Limit } from './limit.ts';

/** So many in a time, and so many at once. */
export interface RateAndBurst {
  readonly rate: RateValue;
  readonly burst: number;
}

/** The limits of the proxy's configuration, each for everybody whom it names apart. What is absent is not limited. */
export interface ConfiguredLimits {
  /** Of one principal and one datasource, where the rule names no rate of its own. */
  readonly datasource: RateAndBurst | undefined;
  readonly principal: RateAndBurst | undefined;
  /** Of a role of a tenant. */
  readonly role: RateAndBurst | undefined;
  /** Of all who use one credential together: what its owner allows. */
  readonly credential: RateAndBurst | undefined;
  /** Of all who call one host together. */
  readonly host: RateAndBurst | undefined;
  /** Bytes of bodies and tunnels, both ways, of one principal. */
  readonly principalBytes: RateAndBurst | undefined;
  readonly datasourceBytes: RateAndBurst | undefined;
}

/** What the limits of a request depend on, beside its caller and the limits of its rule. */
interface Known {
  readonly configured: ConfiguredLimits;
  readonly role: string;
  readonly policy: string;
  readonly rule: string;
  readonly credential: string | null;
  readonly datasource: AllowDecision['datasource'];
  readonly host: string | undefined;
  readonly limits: readonly Limit[];
}

/** The last ones of each identity and rule: the names of limits cost more than counting. */
const KNOWN = new WeakMap<object, WeakMap<object, Known>>();

/** Every limit that one allowed request must keep, that of its rule first. */
export function limitsOf(
  configured: ConfiguredLimits,
  caller: Caller,
  target: Target,
  decision: AllowDecision,
): readonly Limit[] {
  const { identity, role } = caller;
  const { policy, rule, credential, datasource } = decision;
  const host = target.kind === 'datasource' ? undefined : target.host.text;
  let ofIdentity = KNOWN.get(identity);
  if (!ofIdentity) KNOWN.set(identity, (ofIdentity = new WeakMap()));
  const known = ofIdentity.get(decision.limits);
  if (
    known?.configured === configured &&
    known.role === role &&
    known.policy === policy &&
    known.rule === rule &&
    known.credential === credential &&
    known.datasource === datasource &&
    known.host === host
  )
    return known.limits;
  const limits = makeLimits(configured, caller, host, decision);
  const made = { configured, role, policy, rule, credential, datasource, host, limits };
  ofIdentity.set(decision.limits, made);
  return limits;
}

function makeLimits(
  configured: ConfiguredLimits,
  { identity, role }: Caller,
  host: string | undefined,
  { policy, rule, limits, credential, datasource }: AllowDecision,
): Limit[] {
  const { issuer, tenant, subject } = identity.principal;
  const principal = [issuer, tenant, subject];
  const source = datasource && [datasource.type, datasource.name];
  const all: Limit[] = [];
  const add = (
    dimension: Limit['dimension'],
    value: RateAndBurst | undefined,
    whose: readonly unknown[] | null,
    unit: Limit['unit'] = 'requests',
  ): void => {
    if (value && whose) all.push({ dimension, unit, key: keyOf(dimension, unit, whose), ...value });
  };
  const ofRule = limits.rate && { rate: limits.rate, burst: limits.burst ?? 1 };
  add('rule', ofRule, [tenant, role, policy, rule]);
  if (!ofRule) add('datasource', configured.datasource, source && [...principal, ...source]);
  add('principal', configured.principal, principal);
  add('role', configured.role, [tenant, role]);
  add('credential', configured.credential, credential === null ? null : [credential]);
  add('host', configured.host, host === undefined ? null : [host]);
  add('principal', configured.principalBytes, principal, 'bytes');
  add('datasource', configured.datasourceBytes, source && [...principal, ...source], 'bytes');
  return all;
}

function keyOf(dimension: string, unit: string, whose: readonly unknown[]): string {
  return JSON.stringify([dimension, unit, ...whose]);
}
