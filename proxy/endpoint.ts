/** Where an endpoint of an operator's is, taken apart for dialling. */
export interface DialledEndpoint {
  readonly scheme: 'http' | 'https';
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
  /** The value of `Host`. */
  readonly authority: string;
  /** Empty, or `/base` without a slash at its end. */
  readonly basePath: string;
}

/** Those of a policy or two: reading a URL costs as much as deciding. */
const READ_MAX = 1_024;
const read = new Map<string, DialledEndpoint>();

/** An endpoint's URL, the operator's and not a caller's, taken apart. */
export function endpointOf(endpoint: string): DialledEndpoint {
  const known = read.get(endpoint);
  if (known) return known;
  if (read.size >= READ_MAX) read.clear();
  const made = takeApart(endpoint);
  read.set(endpoint, made);
  return made;
}

function takeApart(endpoint: string): DialledEndpoint {
  const url = new URL(endpoint);
  const scheme = url.protocol === 'https:' ? 'https' : 'http';
  const port = url.port === '' ? { http: 80, https: 443 }[scheme] : Number(url.port);
  return {
    scheme,
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port,
    authority: url.host,
    basePath: url.pathname.replace(/\/$/, ''),
  };
}
