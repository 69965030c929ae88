import { OutriderError } from '#core/errors';
import { nearest } from '#core/nearest';
import type { Principal } from '#core/principal';
import type { Member, Role } from './document.ts';
import { hasExpired } from './match.ts';
import type { PolicySet } from './policy-set.ts';
import { bytesOf, durationMsOf, endOfDayMs } from './units.ts';

/** The names of the roles that a principal has at `nowMs`, sorted. An expired Role names nobody. */
export function rolesOf(set: PolicySet, principal: Principal, nowMs: number): string[] {
  return [...set.roles.values()]
    .filter((role) => namesAt(role, principal, nowMs))
    .map((role) => role.metadata.name)
    .toSorted();
}

/** Whether `rolesOf` would name this one. */
export function hasRole(
  set: PolicySet,
  principal: Principal,
  name: string,
  nowMs: number,
): boolean {
  const role = set.roles.get(name);
  return role !== undefined && namesAt(role, principal, nowMs);
}

function namesAt(role: Role, principal: Principal, nowMs: number): boolean {
  return (
    !roleExpired(role, nowMs) && role.spec.members.some((member) => isMember(member, principal))
  );
}

/**
 * The role that a principal calls as: the one asked for, or with `asked` empty the only one it has.
 * @throws {OutriderError} ROLE_DENIED where it has none, or not that one; ROLE_AMBIGUOUS where it has several and asked for none
 */
export function chooseRole(
  set: PolicySet,
  principal: Principal,
  asked: string,
  nowMs: number,
): Role {
  const names = rolesOf(set, principal, nowMs);
  if (asked === '' && names.length > 1) {
    throw new OutriderError(
      'ROLE_AMBIGUOUS',
      `several roles are yours: choose one of ${names.join(', ')}`,
    );
  }
  const name = asked === '' ? names[0] : names.find((candidate) => candidate === asked);
  const role = name === undefined ? undefined : set.roles.get(name);
  if (role) return role;
  if (asked === '') throw new OutriderError('ROLE_DENIED', 'no role is yours');
  const meant = nearest(asked, names);
  throw new OutriderError(
    'ROLE_DENIED',
    `the role "${asked}" is not one of yours${meant === undefined ? '' : `: did you mean "${meant}"?`}`,
  );
}

/** The bounds that a Role sets for its sandboxes, as numbers; what is absent is the runner's to choose. */
export interface SandboxBounds {
  readonly memoryBytes?: number;
  readonly cpus?: number;
  readonly pids?: number;
  readonly diskBytes?: number;
  readonly outputBytes?: number;
  readonly timeoutMs: number;
  readonly concurrent?: number;
  readonly sessions?: number;
  readonly sessionIdleMs?: number;
  readonly sessionMaxMs?: number;
}

/** `role.sandbox.timeout` where a Role does not say. */
export const DEFAULT_TIMEOUT_MS = 600_000;

export function sandboxBounds(role: Role): SandboxBounds {
  let bounds = BOUNDS.get(role);
  if (!bounds) BOUNDS.set(role, (bounds = readBounds(role)));
  return bounds;
}

const BOUNDS = new WeakMap<Role, SandboxBounds>();

function readBounds({ spec: { sandbox } }: Role): SandboxBounds {
  const { memory, cpus, pids, disk, output, timeout, concurrent, sessions } = sandbox;
  const { sessionIdle, sessionMax } = sandbox;
  return {
    timeoutMs: timeout === undefined ? DEFAULT_TIMEOUT_MS : durationMsOf(timeout),
    ...(memory === undefined ? {} : { memoryBytes: bytesOf(memory) }),
    ...(cpus === undefined ? {} : { cpus }),
    ...(pids === undefined ? {} : { pids }),
    ...(disk === undefined ? {} : { diskBytes: bytesOf(disk) }),
    ...(output === undefined ? {} : { outputBytes: bytesOf(output) }),
    ...(concurrent === undefined ? {} : { concurrent }),
    ...(sessions === undefined ? {} : { sessions }),
    ...(sessionIdle === undefined ? {} : { sessionIdleMs: durationMsOf(sessionIdle) }),
    ...(sessionMax === undefined ? {} : { sessionMaxMs: durationMsOf(sessionMax) }),
  };
}

/** Everything that the entry names must hold; an entry that names nothing names nobody. */
function isMember(member: Member, principal: Principal): boolean {
  const { issuer, subject, group, tenant, claim } = member;
  const wants: boolean[] = [];
  if (issuer !== undefined) wants.push(issuer === principal.issuer);
  if (subject !== undefined) wants.push(subject === principal.subject);
  if (group !== undefined) wants.push(principal.groups.includes(group));
  if (tenant !== undefined) wants.push(tenant === principal.tenant);
  for (const [name, value] of Object.entries(claim ?? {})) {
    wants.push(Object.hasOwn(principal.claims, name) && principal.claims[name] === value);
  }
  return wants.length > 0 && wants.every(Boolean);
}

function roleExpired({ metadata: { expires } }: Role, nowMs: number): boolean {
  return expires !== undefined && hasExpired(endOfDayMs(expires) ?? 0, nowMs);
}
