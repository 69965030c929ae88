/** The head of a request over HTTP/2, as HTTP/1.1 would have it. */
export interface Http2Head {
  readonly method: string;
  /** Of `:scheme`; not to be trusted where the connection says what it is. */
  readonly scheme: string;
  readonly path: string;
  /** `Host` first, where there is one; no pseudo fields. */
  readonly rawHeaders: string[];
}

/**
 * Reads what came as a header block: names and values in turn. Undefined where `:authority` and a Host header name two hosts (RFC 9113,
 * 8.3.1); that each pseudo field comes once, and before all others, nghttp2 has checked.
 */
export function http2Head(rawHeaders: readonly string[]): Http2Head | undefined {
  const pseudo: Record<string, string> = {};
  const fields: string[] = [];
  let host: string | undefined;
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const [name = '', value = ''] = [rawHeaders[at], rawHeaders[at + 1]];
    if (name.startsWith(':')) pseudo[name] = value;
    else if (name === 'host') {
      if (host !== undefined && host !== value) return undefined;
      host = value;
    } else fields.push(name, value);
  }
  const { ':method': method = '', ':scheme': scheme = '', ':path': path = '' } = pseudo;
  const authority = pseudo[':authority'];
  if (authority !== undefined && host !== undefined && authority !== host) return undefined;
  const named = authority ?? host;
  return {
    method,
    scheme,
    path,
    rawHeaders: named === undefined ? fields : ['host', named, ...fields],
  };
}
