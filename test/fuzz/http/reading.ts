/** One request as a reader understood it. Texts are Latin-1: one character is one byte. */
export interface Seen {
  readonly method: string;
  readonly target: string;
  /** The target by the reader's own reading of URLs, in the spelling of `urlText`; none where it is no absolute URL. */
  readonly url: string | undefined;
  readonly host: string | undefined;
  readonly body: string;
}

/**
 * What became of the bytes behind the last request that was whole: there were none, more must come, they were refused, nobody looks at
 * them since the connection is to close, or they belong to whom a CONNECT or Upgrade asked for.
 */
export type After = 'end' | 'waiting' | 'refused' | 'closed' | 'tunnel';

export interface Reading {
  readonly requests: readonly Seen[];
  readonly after: After;
}

/** One reader of the bytes of a connection. */
export interface Reader {
  readonly name: string;
  readonly read: (text: string) => Promise<Reading>;
  readonly stop: () => void;
}

/** One spelling of an absolute URL: what a host and a port are not, such as case, the last dot and a default port, is gone. */
export function urlText(scheme: string, host: string, port: string, rest: string): string {
  const fallback = scheme.toLowerCase() === 'https' ? '443' : '80';
  return `${scheme.toLowerCase()}://${hostText(host)}:${Number(port || fallback)}${rest === '' || rest.startsWith('?') ? `/${rest}` : rest}`;
}

export function hostText(host: string): string {
  return host.toLowerCase().replace(/\.$/, '');
}

/** How WHATWG's URL, and so undici and fetch, reads a target; none where that is no absolute URL with a host. */
export function whatwgUrl(target: string): string | undefined {
  if (!/^[a-z][a-z0-9+.-]*:/i.test(target) || !URL.canParse(target)) return undefined;
  return splitUrl(new URL(target).href);
}

/** A URL that is already written as plainly as a URL can be: a scheme, a host with its port, and what is left. */
export function splitUrl(url: string): string | undefined {
  const [, scheme = '', host = '', port = '', rest = ''] =
    /^([a-z][a-z0-9+.-]*):\/\/([^/?#]+?)(?::(\d+))?((?:[/?#].*)?)$/is.exec(url) ?? [];
  return host === '' ? undefined : urlText(scheme, host, port, rest);
}
