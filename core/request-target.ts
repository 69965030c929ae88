import { OutriderError } from './errors.ts';
import type { HttpRequest } from './http-exchange.ts';

type Target = Pick<HttpRequest, 'url' | 'headers' | 'rawHeaders'>;

/** The path that a request is for, without its query, in either form of a request's target (RFC 9112 section 3.2). */
export function pathOf({ url = '' }: Pick<Target, 'url'>): string {
  const path = url.slice(originOf(url).length).split('?', 1)[0] ?? '';
  return path === '' ? '/' : path;
}

/**
 * The host that a request is for: that of an absolute target, which stands above the header (RFC 9112 section 3.2.2), else the header's.
 * @throws {OutriderError} INVALID_REQUEST where there are several headers: who reads the last of them reads another host
 */
export function hostOf({ url = '', headers, rawHeaders }: Target): string | undefined {
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? '';
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  if (hosts > 1) throw new OutriderError('INVALID_REQUEST', 'a request has one Host header');
  const origin = originOf(url);
  return origin === '' ? headers.host : origin.replace(/^\w+:\/\//, '');
}

/** Scheme and authority of an absolute target; empty for a path. */
function originOf(url: string): string {
  if (url.startsWith('/')) return '';
  return /^https?:\/\/[^/?#]*/i.exec(url)?.[0] ?? '';
}
