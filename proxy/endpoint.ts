/** Where an endpoint of an operator's is, taken apart for dialling. */
export interface DialledEndpoint {
  readonly scheme: 'http' | 'https';
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
  /** The value of `Host`. */
  readonly authority: string;
}

/** An endpoint's URL, the operator's and not a caller's, taken apart. */
export function endpointOf(endpoint: string): DialledEndpoint {
  const url = new URL(endpoint);
  const scheme = url.protocol === 'https:' ? 'https' : 'http';
  const port = url.port === '' ? { http: 80, https: 443 }[scheme] : Number(url.port);
  return { scheme, host: url.hostname.replace(/^\[|\]$/g, ''), port, authority: url.host };
}
