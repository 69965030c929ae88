import type { Protocol, Scheme } from './document.ts';
import type { RoleProjection } from './projection.ts';
import type { RolePolicy } from './role-policy.ts';
import type { RequestProtocol, TunnelTarget } from './target.ts';

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

/**
 * What rules that look at requests speak to a host and port in `scheme`; empty where there are none. It says what to offer a program that
 * opens a connection, and allows nothing: every request on it is decided for itself.
 */
export function spokenTo(
  { allowIndex }: RolePolicy,
  target: TunnelTarget,
  scheme: Scheme,
): ReadonlySet<Protocol> {
  return allowIndex.spoken(target, scheme);
}

/**
 * What a request is spoken in, by its head alone. Content types beside gRPC's own, such as that of gRPC-Web, are ordinary requests. Sidecar
 * and proxy both ask here, so that they decide on the same target.
 */
export function requestProtocol(head: {
  readonly http2: boolean;
  readonly websocket: boolean;
  readonly contentType: string | undefined;
}): RequestProtocol {
  if (head.websocket) return 'websocket';
  if (!head.http2) return 'http1';
  return GRPC.test(head.contentType ?? '') ? 'grpc' : 'http2';
}

const GRPC = /^\s*application\/grpc(?![\w.-])/i;
