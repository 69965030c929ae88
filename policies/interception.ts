import type { RoleProjection } from './projection.ts';

/**
 * The names below which a policy has rules that look into TLS, sorted, `*.` left off: what a sandbox's CA must be able to sign for. None
 * where it has no such rule; then nothing of its TLS is looked into.
 */
export function interceptedHosts({ policies }: RoleProjection): string[] {
  const rules = policies
    .flatMap(({ allow }) => allow)
    .filter(({ scheme, protocols }) => scheme === 'https' && !protocols.includes('tunnel'));
  const names = rules.flatMap(({ hosts }) => hosts.map((host) => host.replace(/^\*\./, '')));
  return [...new Set(names)].toSorted();
}
