import { decide } from './decide.ts';
import type { RolePolicy } from './role-policy.ts';
import {
  aliasTarget,
  type Canonical,
  hostTarget,
  REQUEST_PROTOCOLS,
  splitAbsoluteForm,
  type Target,
  tunnelTarget,
} from './target.ts';

/**
 * A request as PolicyTests and `policy explain` write it: `GET https://host/path`, `CONNECT host:443` or
 * `GET /<type>/<name>/path`. A request that is not spoken in HTTP/1.1 says so behind: `GET https://host/path websocket`.
 */
export function requestTarget(text: string): Canonical<Target> {
  const [method = '', where, word = 'http1', more] = text.split(' ');
  const protocol = REQUEST_PROTOCOLS.find((known) => known === word);
  if (where === undefined || protocol === undefined || more !== undefined)
    return { ok: false, reason: 'request_target_malformed' };
  if (method === 'CONNECT')
    return text.endsWith(where)
      ? tunnelTarget(where)
      : { ok: false, reason: 'request_target_malformed' };
  if (where.startsWith('/')) return aliasTarget({ method, path: where, protocol });
  const absolute = splitAbsoluteForm(where);
  return absolute.ok ? hostTarget({ ...absolute, method, protocol }) : absolute;
}

/**
 * The target whose decision a program meets. An https request begins with CONNECT: where a rule passes that tunnel on
 * opaquely, or the tunnel is refused though the request would not be, the tunnel's decision is the one that counts.
 */
export function programTarget(policy: RolePolicy, target: Target, nowMs: number): Target {
  if (target.kind !== 'host' || target.scheme !== 'https') return target;
  const { host, port } = target;
  const tunnel: Target = { kind: 'tunnel', host, port };
  const decision = decide(policy, tunnel, nowMs);
  if (decision.verdict === 'allow') return decision.intercept ? target : tunnel;
  // Both refuse: the request's own refusal says more.
  return decide(policy, target, nowMs).verdict === 'deny' ? target : tunnel;
}
