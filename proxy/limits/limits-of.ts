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

export const NO_LIMITS: ConfiguredLimits = {
  datasource: undefined,
  principal: undefined,
  role: undefined,
  credential: undefined,
  host: undefined,
  principalBytes: undefined,
  datasourceBytes: undefined,
};

/** Every limit that one allowed request must keep, that of its rule first. */
export function limitsOf(
  configured: ConfiguredLimits,
  { identity, role }: Caller,
  target: Target,
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
  add('host', configured.host, target.kind === 'datasource' ? null : [target.host.text]);
  add('principal', configured.principalBytes, principal, 'bytes');
  add('datasource', configured.datasourceBytes, source && [...principal, ...source], 'bytes');
  return all;
}

function keyOf(dimension: string, unit: string, whose: readonly unknown[]): string {
  return JSON.stringify([dimension, unit, ...whose]);
}
