import { decide } from './decide.ts';
import type { RolePolicy } from './role-policy.ts';
import {
  aliasTarget,
  type Canonical,
  hostTarget,
  splitAbsoluteForm,
  type Target,
  tunnelTarget,
} from './target.ts';

/**
 * A request as PolicyTests and `policy explain` write it: `GET https://host/path`, `CONNECT host:443` or
 * `GET /<type>/<name>/path`.
 */
export function requestTarget(text: string): Canonical<Target> {
  const space = text.indexOf(' ');
  const [method, rest] = [text.slice(0, space), text.slice(space + 1)];
  if (space < 1) return { ok: false, reason: 'request_target_malformed' };
  if (method === 'CONNECT') return tunnelTarget(rest);
  if (rest.startsWith('/')) return aliasTarget({ method, path: rest });
  const absolute = splitAbsoluteForm(rest);
  return absolute.ok ? hostTarget({ ...absolute, method }) : absolute;
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
