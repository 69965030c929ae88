import type { Scheme } from './document.ts';
import { type Host, parseAuthority } from './host.ts';
import { parsePath } from './path.ts';
import { DEFAULT_PORT, splitAbsoluteForm } from './target.ts';

/** Where a datasource is. */
export interface Endpoint {
  readonly scheme: Scheme;
  readonly host: Host;
  readonly port: number;
  /** What stands before every path: empty, or `/base` without a slash at its end. */
  readonly basePath: string;
}

/** Reads `http(s)://host[:port][/base]`, canonical as any target. Text: what is wrong with it. */
export function parseEndpoint(text: string): Endpoint | string {
  const form = splitAbsoluteForm(text);
  if (!form.ok) return `this is not an endpoint (${form.reason})`;
  const authority = parseAuthority(form.authority);
  if (typeof authority === 'string') return `this is not an endpoint (${authority})`;
  if (form.path.includes('?')) return 'an endpoint has no query';
  const path = parsePath(form.path);
  if (typeof path === 'string') return 'the path is not canonical';
  const basePath = path.text.replace(/\/$/, '');
  const { host, port } = authority;
  return { scheme: form.scheme, host, port: port ?? DEFAULT_PORT[form.scheme], basePath };
}
