import { OutriderError } from '#core/errors';

/** How this machine calls itself. */
export const LOOPBACK_HOSTS = ['localhost', '127.0.0.1', '[::1]'] as const;
export const LOOPBACK_ORIGINS = ['http', 'https'].flatMap((scheme) =>
  LOOPBACK_HOSTS.map((host) => `${scheme}://${host}:*`),
);

/**
 * Keeps web pages out that reached the gateway through DNS rebinding or from another site: the name that was called must be
 * known, and where a browser says which page calls, that page too. Clients that are not browsers send no `Origin`.
 * @throws {OutriderError} CONFIG_INVALID for an entry that could never match
 */
export function createHostOriginCheck(
  allowedHosts: readonly string[],
  allowedOrigins: readonly string[],
): (host: string | undefined, origin: string | undefined) => void {
  const hosts = new Set(allowedHosts.map(parseHostEntry));
  const origins = new Set(allowedOrigins.map(parseOriginEntry));

  /** The last one that was let in: the next is nearly always the same. */
  let known: string | undefined;

  /** @throws {OutriderError} HOST_NOT_ALLOWED | ORIGIN_NOT_ALLOWED */
  return (host, origin) => {
    if (host !== undefined && host === known && origin === undefined) return;
    const called = parseHost(host ?? '');
    if (!called || !(hosts.has(called.name) || hosts.has(`${called.name}:${called.port}`)))
      throw new OutriderError(
        'HOST_NOT_ALLOWED',
        'this gateway is not called by that name: add it to allowedHosts',
      );
    known = host;
    if (origin === undefined) return;
    const page = parseOrigin(origin);
    if (!page || !(origins.has(page.exact) || origins.has(page.anyPort)))
      throw new OutriderError(
        'ORIGIN_NOT_ALLOWED',
        'pages of that origin may not call: add it to allowedOrigins',
      );
  };
}

function parseHost(text: string): { name: string; port: string } | undefined {
  const match = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/.exec(text);
  return match?.[1] ? { name: match[1].toLowerCase(), port: match[2] ?? '' } : undefined;
}

function parseOrigin(text: string): { exact: string; anyPort: string } | undefined {
  // An origin is scheme, host and port and nothing else: what URL would repair is refused (RFC 6454 section 6.2).
  if (!/^https?:\/\/[^/?#@\\\s]+$/i.test(text) || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  return { exact: url.origin, anyPort: `${url.protocol}//${url.hostname}:*` };
}

function parseHostEntry(entry: string): string {
  const host = parseHost(entry);
  if (!host)
    throw new OutriderError(
      'CONFIG_INVALID',
      `gateway.allowedHosts: "${entry}" is not a host name, write name or name:port`,
    );
  return host.port === '' ? host.name : `${host.name}:${host.port}`;
}

function parseOriginEntry(entry: string): string {
  const anyPort = entry.endsWith(':*');
  const origin = parseOrigin(anyPort ? entry.slice(0, -2) : entry);
  if (!origin)
    throw new OutriderError(
      'CONFIG_INVALID',
      `gateway.allowedOrigins: "${entry}" is not an origin, write scheme://host or scheme://host:port`,
    );
  return anyPort ? origin.anyPort : origin.exact;
}
