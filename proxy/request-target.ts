import type { HttpRequest } from '#core/http-exchange';
import {
  aliasTarget,
  type DatasourceTarget,
  type HostTarget,
  hostTarget,
  type RequestProtocol,
  splitAbsoluteForm,
} from '#policies';
import { refusedTarget } from './answer.ts';
import { valuesOf } from './headers.ts';

/**
 * The one target of a request: absolute form for hosts (and `<type>-<name>.outrider.internal`), origin form for the two other
 * spellings of a datasource.
 * @throws {OutriderError} INVALID_REQUEST, DATASOURCE_MISSING, DATASOURCE_UNKNOWN, METHOD_NOT_ALLOWED, EGRESS_DENIED
 */
export function requestTarget(
  request: Pick<HttpRequest, 'method' | 'url' | 'rawHeaders'>,
  protocol: RequestProtocol,
): HostTarget | DatasourceTarget {
  const { method = '', url = '', rawHeaders } = request;
  const hosts = valuesOf(rawHeaders, 'host');
  if (hosts.length > 1) throw refusedTarget('host_duplicate');
  if (hosts.length === 0) throw refusedTarget('host_missing');
  if (url.startsWith('/')) {
    const names = valuesOf(rawHeaders, 'x-datasource');
    if (names.length > 1) throw refusedTarget('alias_unknown');
    return accepted(aliasTarget({ method, path: url, datasourceHeader: names[0], protocol }));
  }
  const split = splitAbsoluteForm(url);
  if (!split.ok) throw refusedTarget(split.reason);
  // RFC 9112 3.2.2 lets the request target win; two names for one request are refused here instead.
  if (hosts[0] !== split.authority) throw refusedTarget('host_mismatch');
  return accepted(hostTarget({ ...split, method, protocol }));
}

function accepted<T>(
  canonical: { ok: true; target: T } | { ok: false; reason: Parameters<typeof refusedTarget>[0] },
): T {
  if (canonical.ok) return canonical.target;
  throw refusedTarget(canonical.reason);
}
