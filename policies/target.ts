import type { DatasourceType, Method, Protocol, Scheme } from './document.ts';
import { authorityText, type Host, parseAuthority } from './host.ts';
import { type Path, parsePath, queryRefusal, textBehind } from './path.ts';
import type { Reason } from './reason.ts';

/**
 * Where a request wants to go, canonical. Made once, by the functions of this file alone, and the only thing that matcher,
 * DNS, SNI, Host, wire, rate key and audit use.
 */
export type Target = HostTarget | TunnelTarget | DatasourceTarget;

/** One HTTP request to a host. */
export interface HostTarget {
  readonly kind: 'host';
  readonly scheme: Scheme;
  readonly host: Host;
  readonly port: number;
  readonly method: Method;
  readonly path: Path;
  /** Without its question mark; null where there is none. */
  readonly query: string | null;
  readonly protocol: RequestProtocol;
}

/**
 * What a request is spoken in. A WebSocket begins with a GET that asks for it; gRPC is a POST over HTTP/2 whose content type says
 * so. Neither is http1 or http2 as well.
 */
export type RequestProtocol = Exclude<Protocol, 'tunnel'>;

/** An opaque connection, or one whose requests will be looked at later. */
export interface TunnelTarget {
  readonly kind: 'tunnel';
  readonly host: Host;
  readonly port: number;
}

/** One HTTP request to a datasource; where that is, only the proxy knows. */
export interface DatasourceTarget {
  readonly kind: 'datasource';
  readonly type: DatasourceType;
  readonly name: string;
  readonly method: Method;
  readonly path: Path;
  readonly query: string | null;
  readonly protocol: RequestProtocol;
}

/** A target, or why the text has no single meaning. */
export type Canonical<T> =
  | { readonly ok: true; readonly target: T }
  | { readonly ok: false; readonly reason: Reason };

export const METHODS = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
] as const satisfies readonly Method[];
export const DATASOURCE_TYPES = [
  'clickhouse',
  'prometheus',
  'loki',
  's3',
  'http',
] as const satisfies readonly DatasourceType[];
export const REQUEST_PROTOCOLS = [
  'http1',
  'http2',
  'grpc',
  'websocket',
] as const satisfies readonly RequestProtocol[];
export const DEFAULT_PORT = { http: 80, https: 443 } as const;
/** Names beneath it are datasources, never looked up. */
export const ALIAS_DOMAIN = 'outrider.internal';

const NAME = /^[a-z][a-z0-9-]{0,62}$/;

/**
 * The target of an HTTP request to a host; `http://<type>-<name>.outrider.internal/...` gives a datasource.
 * `path` is in origin form: a path with an optional query.
 */
export function hostTarget(request: {
  readonly scheme: Scheme;
  readonly authority: string;
  readonly method: string;
  readonly path: string;
  /** Default http1. */
  readonly protocol?: RequestProtocol;
}): Canonical<HostTarget | DatasourceTarget> {
  const authority = parseAuthority(request.authority);
  if (typeof authority === 'string') return refuse(authority);
  const { host } = authority;
  const rest = requestParts(request);
  if (typeof rest === 'string') return refuse(rest);
  const port = authority.port ?? DEFAULT_PORT[request.scheme];
  if (isAliasDomain(host)) {
    // A datasource has one port and one scheme: any other spelling would be a second target.
    if (port !== DEFAULT_PORT.http) return refuse('alias_unknown');
    const alias = aliasOfHost(host);
    return alias ? accept({ kind: 'datasource', ...alias, ...rest }) : refuse('alias_unknown');
  }
  return accept({ kind: 'host', scheme: request.scheme, host, port, ...rest });
}

/** The target of `CONNECT host:port`; the port must be given. */
export function tunnelTarget(authority: string): Canonical<TunnelTarget> {
  if (/[/?#]/.test(authority)) return refuse('request_target_malformed');
  const parsed = parseAuthority(authority);
  if (typeof parsed === 'string') return refuse(parsed);
  const { host, port } = parsed;
  if (port === null) return refuse('port_malformed');
  if (isAliasDomain(host)) return refuse('connect_not_allowed');
  return accept({ kind: 'tunnel', host, port });
}

/**
 * The target of a request in origin form to the door's own address: `/<type>/<name>/rest`, or `/<type>/rest` with the
 * header X-Datasource. With the header, all of the path behind the type is the datasource's.
 */
export function aliasTarget(request: {
  readonly method: string;
  readonly path: string;
  readonly datasourceHeader?: string | undefined;
  /** Default http1. */
  readonly protocol?: RequestProtocol;
}): Canonical<DatasourceTarget> {
  if (!request.path.startsWith('/')) return refuse('request_target_malformed');
  const rest = requestParts(request);
  if (typeof rest === 'string') return refuse(rest);
  const [type, ...behindType] = rest.path.segments;
  if (type === '' || type === undefined) return refuse('datasource_missing');
  if (!isDatasourceType(type)) return refuse('alias_unknown');
  const [name, ...behind] =
    request.datasourceHeader === undefined ? behindType : [request.datasourceHeader, ...behindType];
  if (name === undefined || name === '') return refuse('datasource_missing');
  if (!NAME.test(name)) return refuse('alias_unknown');
  const segments = behind.length === 0 ? [''] : behind;
  const path = { text: textBehind(rest.path, rest.path.segments.length - behind.length), segments };
  return accept({ kind: 'datasource', type, name, ...rest, path });
}

/**
 * Takes an absolute-form request target apart (RFC 9112, 3.2.2). The parts are not canonical yet: give them to `hostTarget`.
 * An empty path is `/`; a query needs a path before it.
 */
export function splitAbsoluteForm(text: string):
  | {
      readonly ok: true;
      readonly scheme: Scheme;
      readonly authority: string;
      readonly path: string;
    }
  | { readonly ok: false; readonly reason: Reason } {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined) return refuse('request_target_malformed');
  if (scheme !== 'http' && scheme !== 'https') return refuse('scheme_not_allowed');
  const rest = text.slice(scheme.length + 1);
  if (!rest.startsWith('//')) return refuse('request_target_malformed');
  const end = rest.slice(2).search(/[/?#]/);
  const authority = end === -1 ? rest.slice(2) : rest.slice(2, end + 2);
  const path = end === -1 ? '/' : rest.slice(end + 2);
  if (path.startsWith('#')) return refuse('fragment_forbidden');
  if (!path.startsWith('/')) return refuse('request_target_malformed');
  return { ok: true, scheme, authority, path };
}

/** Canonical and without the query, for audit and messages: `https://host/path`, `host:443`, `prometheus/main/api/v1/query`. */
export function targetText(target: Target): string {
  if (target.kind === 'tunnel') return authorityText(target.host, target.port, 0);
  if (target.kind === 'datasource') return `${target.type}/${target.name}${target.path.text}`;
  return `${target.scheme}://${targetAuthority(target)}${target.path.text}`;
}

/** What a request is spoken in, for audit, where that is not HTTP/1.1; what is spoken in a tunnel nobody knows. */
export function spokenIn(target: Target): RequestProtocol | undefined {
  return target.kind === 'tunnel' || target.protocol === 'http1' ? undefined : target.protocol;
}

/** The value of `Host` for a request to a host: without the scheme's default port, IPv6 in brackets. */
export function targetAuthority(target: HostTarget | TunnelTarget): string {
  const standard = target.kind === 'host' ? DEFAULT_PORT[target.scheme] : 0;
  return authorityText(target.host, target.port, standard);
}

/** The origin form for the wire: path and query. */
export function originForm({ path, query }: HostTarget | DatasourceTarget): string {
  return query === null ? path.text : `${path.text}?${query}`;
}

/** The host name that is the same target as `/<type>/<name>`. */
export function aliasHost(type: DatasourceType, name: string): string {
  return `${type}-${name}.${ALIAS_DOMAIN}`;
}

export function isDatasourceType(text: string): text is DatasourceType {
  return DATASOURCE_TYPES.some((type) => type === text);
}

function isMethod(text: string): text is Method {
  return METHODS.some((method) => method === text);
}

function requestParts({
  method,
  path: pathAndQuery,
  protocol = 'http1',
}: {
  readonly method: string;
  readonly path: string;
  readonly protocol?: RequestProtocol;
}): Pick<HostTarget, 'method' | 'path' | 'query' | 'protocol'> | Reason {
  if (!isMethod(method)) return 'method_not_allowed';
  if ((METHOD_OF[protocol] ?? method) !== method) return 'method_not_allowed';
  if (pathAndQuery.includes('#')) return 'fragment_forbidden';
  if (!pathAndQuery.startsWith('/')) return 'request_target_malformed';
  const mark = pathAndQuery.indexOf('?');
  const path = parsePath(mark === -1 ? pathAndQuery : pathAndQuery.slice(0, mark));
  if (typeof path === 'string') return path;
  if (mark === -1) return { method, path, query: null, protocol };
  const query = pathAndQuery.slice(mark + 1);
  return queryRefusal(query) ?? { method, path, query, protocol };
}

/** RFC 6455, 4.1; the gRPC protocol over HTTP/2, "Request". */
const METHOD_OF: Readonly<Partial<Record<RequestProtocol, Method>>> = {
  websocket: 'GET',
  grpc: 'POST',
};

function isAliasDomain({ text }: Host): boolean {
  return text === ALIAS_DOMAIN || text.endsWith(`.${ALIAS_DOMAIN}`);
}

function aliasOfHost({ text }: Host): { type: DatasourceType; name: string } | undefined {
  const label = text.slice(0, -ALIAS_DOMAIN.length - 1);
  const dash = label.indexOf('-');
  const [type, name] = [label.slice(0, dash), label.slice(dash + 1)];
  return dash > 0 && isDatasourceType(type) && NAME.test(name) ? { type, name } : undefined;
}

function accept<T>(target: T): { readonly ok: true; readonly target: T } {
  return { ok: true, target };
}

function refuse(reason: Reason): { readonly ok: false; readonly reason: Reason } {
  return { ok: false, reason };
}
