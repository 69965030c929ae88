import {
  aliasTarget,
  type Canonical,
  type DatasourceTarget,
  type HostTarget,
  hostTarget,
  type RequestProtocol,
  splitAbsoluteForm,
  type TunnelTarget,
  targetAuthority,
  tunnelTarget,
} from '#policies';
import { headerOf } from './framing.ts';
import type { ProgramRequest } from './program-side.ts';
import { Refused } from './refusal.ts';

/** How a request came in, as audit records name it. */
export type Ingress = 'forward' | 'alias' | 'connect' | 'socks5' | 'intercept';

/** Whose server a connection speaks to that was opened by CONNECT or SOCKS5 and is looked into. */
export interface Origin {
  readonly scheme: 'http' | 'https';
  readonly target: TunnelTarget;
}

/** Names under which a program inside the sandbox calls the door itself, whatever the port. */
const OWN_HOST = /^(?:127\.0\.0\.1|localhost|\[::1\]|outrider\.internal)(?::([1-9]\d{0,4}))?$/i;
const PORT_MAX = 65_535;

/** What the form of the request line makes of a request; a path is taken for the door's own. */
export function ingressOf(url: string): Ingress {
  return url.startsWith('/') || url === '*' ? 'alias' : 'forward';
}

/**
 * The one target of a request in absolute form, or in origin form to the door itself.
 * @throws {Refused} what has no single meaning, and `https:` where no TLS was seen
 */
export function requestTarget(
  request: ProgramRequest,
  protocol: RequestProtocol,
): HostTarget | DatasourceTarget {
  const { method = '', url = '', rawHeaders } = request;
  if (ingressOf(url) === 'alias') {
    assertOwnHost(request);
    if (url.includes('#')) throw new Refused('path_malformed');
    const datasourceHeader = headerOf(rawHeaders, 'x-datasource');
    return canonical(aliasTarget({ method, path: url, datasourceHeader, protocol }));
  }
  const parts = splitAbsoluteForm(url);
  if (!parts.ok) throw new Refused(parts.reason);
  // Plain bytes that claim https would make the door encrypt what the program did not.
  if (parts.scheme !== 'http') throw new Refused('scheme_not_allowed');
  const target = canonical(hostTarget({ ...parts, method, protocol }));
  const named = headerOf(rawHeaders, 'x-datasource');
  if (target.kind === 'datasource' && named !== undefined && named !== target.name)
    throw new Refused('header_forbidden'); // two names for one target
  return target;
}

/** @throws {Refused} host_mismatch where a path is asked of another host than the door */
export function assertOwnHost({ rawHeaders }: ProgramRequest): void {
  const named = OWN_HOST.exec(headerOf(rawHeaders, 'host') ?? 'localhost');
  if (!named || Number(named[1] ?? PORT_MAX) > PORT_MAX)
    throw new Refused('host_mismatch', { status: 400 });
}

/**
 * The target of a request inside a connection that is looked into: a path of the host that it was opened to, also in absolute form (RFC 9112,
 * 3.2.2).
 * @throws {Refused} what has no single meaning; a second CONNECT and a target with another scheme, host or port are refused
 */
export function insideTarget(
  request: ProgramRequest,
  { scheme, target: to }: Origin,
  protocol: RequestProtocol,
): HostTarget {
  const { method = '', url = '' } = request;
  const authority = targetAuthority(to);
  let path = url;
  if (!url.startsWith('/')) {
    const parts = splitAbsoluteForm(url);
    if (!parts.ok) throw new Refused('request_target_malformed');
    if (!isAt(parts, to)) throw new Refused('host_mismatch');
    if (parts.scheme !== scheme) throw new Refused('request_target_malformed');
    path = parts.path;
  }
  const target = canonical(hostTarget({ scheme, authority, method, path, protocol }));
  if (target.kind !== 'host') throw new Refused('request_target_malformed');
  return target;
}

/** Whether the target is at that host and port; the port need not be named where it is the scheme's own (RFC 9110, 4.2.3). */
function isAt(
  { scheme, authority }: Pick<HostTarget, 'scheme'> & { readonly authority: string },
  to: TunnelTarget,
): boolean {
  const named = hostTarget({ scheme, authority, method: 'GET', path: '/' });
  const { target } = named.ok ? named : {};
  return target?.kind === 'host' && target.host.text === to.host.text && target.port === to.port;
}

/** The target of a CONNECT, or of the like in SOCKS5. @throws {Refused} */
export function connectTarget(authority: string): TunnelTarget {
  if (authority.startsWith('/')) throw new Refused('method_not_allowed');
  return canonical(tunnelTarget(authority));
}

/**
 * Whether the Host header names the host of the target too (RFC 9112, 3.2.2 lets a proxy overwrite it; two names are refused
 * instead). Asked after the decision, so that a denied target is answered as denied.
 * @throws {Refused} host_mismatch
 */
export function assertHostAgrees(request: ProgramRequest, ingress: Ingress, origin?: Origin): void {
  const host = headerOf(request.rawHeaders, 'host');
  // HTTP/1.0 has none; an alias has been compared already.
  if (host === undefined || ingress === 'alias') return;
  if (origin) {
    if (isAt({ scheme: origin.scheme, authority: host }, origin.target)) return;
    throw new Refused('host_mismatch');
  }
  const url = request.url ?? '';
  const named = ingress === 'connect' ? url : authorityOf(url);
  if (host.toLowerCase() === named.toLowerCase()) return;
  if (sameAuthority(host, named, ingress === 'connect' ? 443 : 80)) return;
  throw new Refused('host_mismatch');
}

function sameAuthority(left: string, right: string, fallbackPort: number): boolean {
  const [a, b] = [left, right].map((authority) =>
    hostTarget({
      scheme: fallbackPort === 80 ? 'http' : 'https',
      authority,
      method: 'GET',
      path: '/',
    }),
  );
  if (!a?.ok || !b?.ok) return false;
  if (a.target.kind === 'datasource' || b.target.kind === 'datasource')
    return JSON.stringify(a.target) === JSON.stringify(b.target);
  // Clients name the host of a CONNECT with or without its port.
  const portAgrees = a.target.port === b.target.port || !/:\d+$/.test(left);
  return a.target.host.text === b.target.host.text && portAgrees;
}

function authorityOf(url: string): string {
  const parts = splitAbsoluteForm(url);
  return parts.ok ? parts.authority : '';
}

function canonical<T>(result: Canonical<T>): T {
  if (!result.ok) throw new Refused(result.reason);
  return result.target;
}
