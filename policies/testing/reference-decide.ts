import type {
  AllowProjection,
  DenyProjection,
  PolicyProjection,
  RoleProjection,
} from '../projection.ts';
import type { Target } from '../target.ts';
import { isWithin, referenceClass } from './reference-address.ts';

/**
 * Deciding again, slowly and plainly: every rule is looked at for itself, patterns become regular expressions, nothing is
 * indexed or kept in order. Of the engine it has the types alone. Where several deny rules apply, each may be the one that is
 * named, so the answers that are right are several.
 */
export function referenceDecide(
  role: RoleProjection,
  target: Target,
  nowMs: number,
): readonly string[] {
  if (role.policies.length === 0) return ['deny no_policy'];
  if (isOver(role.expiresMs, nowMs)) return ['deny policy_expired'];
  const forbidden = forbiddenReason(role, target) ?? beyond(role, target);
  if (forbidden !== undefined) return [`deny ${forbidden}`];

  const asked = role.policies.flatMap((policy) =>
    policy.allow.map((rule) => ({ policy, rule, refusal: refusalOf(rule, target, nowMs) })),
  );
  const best = asked
    .filter(({ refusal }) => refusal === undefined)
    .toSorted((a, b) =>
      compare(precedence(a.policy, a.rule, target), precedence(b.policy, b.rule, target)),
    )[0];
  const opaque = target.kind === 'tunnel' && (best ? isTunnel(best.rule) : true);
  const denials = role.policies.flatMap((policy) =>
    policy.deny
      .filter((rule) => denies(rule, target, opaque))
      .map((rule) => ({ policy, text: `${denyReason(rule, target)} ${rule.id}` })),
  );
  const enforced = denials.filter(({ policy }) => !reports(policy, nowMs));
  if (enforced.length > 0)
    return enforced.map(({ policy, text }) => `deny ${text} of ${policy.name}`);

  const noTunnel = role.boundaries.find(({ mayTunnel }) => !mayTunnel)?.name;
  if (best) {
    if (opaque && noTunnel !== undefined) return [`deny connect_not_allowed boundary:${noTunnel}`];
    const credential = target.kind === 'tunnel' ? null : best.rule.credential;
    const intercept = target.kind === 'tunnel' && !opaque ? ' intercept' : '';
    const allowed = `allow ${best.rule.id} of ${best.policy.name} with ${credential}${intercept}`;
    const reported = denials.filter(({ policy }) => reports(policy, nowMs));
    return reported.length === 0
      ? [allowed]
      : reported.map(({ text }) => `${allowed}, reported ${text}`);
  }
  const unnamed = {
    tunnel: 'host_not_allowed',
    host: 'host_not_allowed',
    datasource: 'alias_unknown',
  };
  const isAddress = target.kind !== 'datasource' && target.host.ip !== null;
  const none = isAddress ? 'ip_not_allowed' : unnamed[target.kind];
  const reason = [none, ...asked.map(({ refusal }) => refusal ?? none)]
    .toSorted((a, b) => NEARNESS.indexOf(a) - NEARNESS.indexOf(b))
    .at(-1);
  const reporter = role.policies.find((policy) => reports(policy, nowMs));
  const isReported =
    reporter &&
    target.kind !== 'datasource' &&
    (!target.host.ip || referenceClass(target.host.text) === 'public') &&
    !(target.kind === 'tunnel' && noTunnel !== undefined);
  return isReported
    ? [`allow report of ${reporter.name} with null, reported ${reason} null`]
    : [`deny ${reason}`];
}

/** Whether an address must not be dialled for what was allowed. */
export function referenceAddressRefused(
  role: RoleProjection,
  target: Target,
  address: string,
): boolean {
  if (target.kind === 'datasource') return true;
  if (target.host.ip ? target.host.text !== address : referenceClass(address) !== 'public')
    return true;
  const never = role.boundaries.flatMap(({ neverCidrs }) => neverCidrs);
  if (never.some((cidr) => isWithin(address, cidr))) return true;
  return role.policies
    .flatMap(({ deny }) => deny)
    .some((rule) => rule.cidrs !== null && denies(rule, target, target.kind === 'tunnel', address));
}

const NEARNESS = (
  'host_not_allowed ip_not_allowed alias_unknown port_not_allowed ip_forbidden_class scheme_not_allowed ' +
  'connect_not_allowed method_not_allowed path_not_allowed query_not_allowed protocol_not_allowed policy_expired'
).split(' ');

function forbiddenReason(role: RoleProjection, target: Target): string | undefined {
  if (target.kind === 'datasource') return undefined;
  const { text, ip } = target.host;
  if (!ip) {
    if (/(?:^|\.)localhost$/.test(text)) return 'ip_forbidden_class';
    return /^(?:metadata\.google\.internal|metadata\.goog|instance-data\.ec2\.internal)$/.test(text)
      ? 'host_denied'
      : undefined;
  }
  const kind = referenceClass(text);
  return kind === 'public' || (kind === 'private' && role.boundaries.length > 0)
    ? undefined
    : 'ip_forbidden_class';
}

function beyond(role: RoleProjection, target: Target): string | undefined {
  for (const one of role.boundaries) {
    const by = ` boundary:${one.name}`;
    if (target.kind !== 'tunnel' && one.mayMethods && !one.mayMethods.includes(target.method))
      return `method_not_allowed${by}`;
    if (target.kind === 'datasource') continue;
    const { text, ip } = target.host;
    if (one.neverPorts.includes(target.port)) return `port_forbidden_class${by}`;
    if (ip) {
      if (one.neverCidrs.some((cidr) => isWithin(text, cidr))) return `ip_forbidden_class${by}`;
      const isPrivate = referenceClass(text) === 'private';
      if (isPrivate && !one.mayPrivate.some((cidr) => isWithin(text, cidr)))
        return `ip_not_allowed${by}`;
      if (!isPrivate && one.mayHosts) return `ip_not_allowed${by}`;
    } else {
      if (isNamed(one.neverHosts, text)) return `host_denied${by}`;
      if (one.mayHosts && !isNamed(one.mayHosts, text)) return `host_not_allowed${by}`;
    }
  }
  return undefined;
}

/** Why one rule does not allow a target; undefined where it does. */
function refusalOf(rule: AllowProjection, target: Target, nowMs: number): string | undefined {
  if (target.kind === 'datasource') {
    if (rule.datasource?.type !== target.type || rule.datasource.name !== target.name)
      return 'alias_unknown';
  } else {
    const { text, ip } = target.host;
    if (!ip && !isNamed(rule.hosts, text)) return 'host_not_allowed';
    if (ip && !rule.cidrs.some((cidr) => isWithin(text, cidr))) return 'ip_not_allowed';
    if (ip && referenceClass(text) === 'private' && !rule.allowPrivate) return 'ip_forbidden_class';
    if (!rule.ports.includes(target.port)) return ip ? 'ip_not_allowed' : 'port_not_allowed';
    if (target.kind === 'tunnel' && rule.scheme !== 'https') return 'connect_not_allowed';
    if (target.kind === 'host' && (rule.scheme !== target.scheme || isTunnel(rule)))
      return 'scheme_not_allowed';
  }
  if (target.kind !== 'tunnel') {
    if (rule.methods !== 'any' && !rule.methods.includes(target.method))
      return 'method_not_allowed';
    if (!fitsPath(rule.paths, target.path.text)) return 'path_not_allowed';
    if (!fitsQuery(rule, target.query)) return 'query_not_allowed';
    if (!rule.protocols.includes(target.protocol)) return 'protocol_not_allowed';
  }
  return isOver(rule.expiresMs, nowMs) ? 'policy_expired' : undefined;
}

function fitsQuery({ query: wanted, queryStrict }: AllowProjection, query: string | null): boolean {
  if (query === null || (Object.keys(wanted).length === 0 && !queryStrict)) return true;
  const text = query.replaceAll('+', ' ');
  // What does not decode, and what other readers take apart at a semicolon, has no one meaning.
  if (query.includes(';') || /%(?![0-9A-Fa-f]{2})/.test(text)) return false;
  for (const [name, value] of new URLSearchParams(`?${query}`)) {
    if (/[\p{Cc}\uFFFD]/u.test(name + value)) return false;
    const pattern = wanted[name];
    if (pattern === undefined ? queryStrict : !expression(`^(?:${pattern})$`).test(value))
      return false;
  }
  return true;
}

function denies(rule: DenyProjection, target: Target, opaque: boolean, dialled?: string): boolean {
  const request = (): boolean =>
    target.kind !== 'tunnel' &&
    (rule.methods === 'any' || rule.methods.includes(target.method)) &&
    fitsPath(rule.paths, target.path.text);
  if (target.kind === 'datasource') {
    const { datasource, hosts, cidrs, ports } = rule;
    const named = datasource
      ? datasource.type === target.type && datasource.name === target.name
      : !hosts && !cidrs && !ports;
    return named && request();
  }
  if (rule.datasource) return false;
  const { text, ip } = target.host;
  const address = dialled ?? (ip ? text : undefined);
  if (rule.hosts && (ip || !isNamed(rule.hosts, text))) return false;
  if (rule.cidrs && !(address !== undefined && rule.cidrs.some((cidr) => isWithin(address, cidr))))
    return false;
  if (rule.ports && !rule.ports.includes(target.port)) return false;
  if (target.kind === 'host') return request();
  return opaque || (rule.methods === 'any' && rule.paths === 'any');
}

function denyReason({ paths, methods, ports }: DenyProjection, target: Target): string {
  if (target.kind !== 'tunnel' && paths !== 'any') return 'path_not_allowed';
  if (target.kind !== 'tunnel' && methods !== 'any') return 'method_not_allowed';
  if (ports) return 'port_not_allowed';
  return target.kind !== 'datasource' && target.host.ip ? 'ip_not_allowed' : 'host_denied';
}

/** What goes first is smaller: looking at requests, a credential, the more specific place, then the names. */
function precedence(
  policy: PolicyProjection,
  rule: AllowProjection,
  target: Target,
): readonly (number | string)[] {
  return [
    isTunnel(rule) ? 1 : 0,
    rule.credential === null ? 1 : 0,
    -specificity(rule, target),
    policy.name,
    rule.id,
  ];
}

function specificity(rule: AllowProjection, target: Target): number {
  if (target.kind === 'datasource') return 0;
  const { text, ip } = target.host;
  if (ip)
    return Math.max(
      ...rule.cidrs
        .filter((cidr) => isWithin(text, cidr))
        .map((cidr) => Number(cidr.split('/')[1])),
    );
  return Math.max(
    ...rule.hosts
      .filter((pattern) => isNamed([pattern], text))
      .map((pattern) => (pattern.startsWith('*') ? pattern.length : 1_000)),
  );
}

function compare(a: readonly (number | string)[], b: readonly (number | string)[]): number {
  for (const [i, left] of a.entries()) {
    const right = b[i] ?? 0;
    if (left !== right) return left < right ? -1 : 1;
  }
  return 0;
}

function isTunnel({ protocols }: AllowProjection): boolean {
  return protocols.includes('tunnel');
}

function reports({ reportUntilMs }: PolicyProjection, nowMs: number): boolean {
  return reportUntilMs !== null && nowMs < reportUntilMs;
}

function isOver(atMs: number | null, nowMs: number): boolean {
  return atMs !== null && nowMs >= atMs;
}

function isNamed(patterns: readonly string[], host: string): boolean {
  return patterns.some((pattern) =>
    expression(`^${pattern.replaceAll('.', '\\.').replace('*', '.+')}$`).test(host),
  );
}

function fitsPath(paths: 'any' | readonly string[], path: string): boolean {
  const plain = decodeURIComponent(path); // there is no encoded slash
  return paths === 'any' || paths.some((pattern) => pathExpression(pattern).test(plain));
}

function pathExpression(pattern: string): RegExp {
  const open = pattern.endsWith('/**');
  const words = (open ? pattern.slice(0, -3) : pattern).split('/').map(wordExpression);
  return expression(`^${words.join('/')}${open ? '(?:/.*)?' : ''}$`);
}

function wordExpression(word: string): string {
  return word === '*' ? '[^/]+' : decodeURIComponent(word).replace(/[^\w%]/g, '\\$&');
}

const EXPRESSIONS = new Map<string, RegExp>();

function expression(text: string): RegExp {
  let found = EXPRESSIONS.get(text);
  if (!found) EXPRESSIONS.set(text, (found = new RegExp(text)));
  return found;
}
