import type { Host } from './host.ts';
import { parseHost } from './host.ts';
import { ALIAS_DOMAIN } from './target.ts';

/** `api.example.com` names one host; `*.example.com` every name with at least one label before it, not `example.com`. */
export interface HostPattern {
  readonly text: string;
  /** The name without `*.`. */
  readonly name: string;
  readonly wildcard: boolean;
}

/** Names that lead to the machine itself or to a cloud's metadata, whatever a resolver says. No rule opens them. */
export const FORBIDDEN_NAMES: readonly string[] = [
  'metadata.google.internal',
  'metadata.goog',
  'instance-data.ec2.internal',
];

/** Reads a pattern that is canonical already. Text: what is wrong with it. */
export function parseHostPattern(text: string): HostPattern | string {
  const wildcard = text.startsWith('*.');
  const name = wildcard ? text.slice(2) : text;
  if (name.includes('*')) return 'a wildcard may only stand left-most, as in "*.example.com"';
  const host = parseHost(name);
  if (typeof host === 'string') return `this is not a canonical host name (${host})`;
  if (host.ip) return 'addresses stand in `cidrs`, not in `hosts`';
  if (host.text !== name) return `write it as "${wildcard ? '*.' : ''}${host.text}"`;
  if (!name.includes('.')) return 'a host needs at least two labels, or three behind a wildcard';
  if (isLocalName(host) || FORBIDDEN_NAMES.includes(name)) return 'this host is never reachable';
  if (name === ALIAS_DOMAIN || name.endsWith(`.${ALIAS_DOMAIN}`)) {
    return 'datasources are named in `datasource`, not by their alias';
  }
  return { text, name, wildcard };
}

/** RFC 6761: `localhost` and everything beneath it is loopback. */
export function isLocalName({ text }: Host): boolean {
  return text === 'localhost' || text.endsWith('.localhost');
}

export function matchesHost({ name, wildcard }: HostPattern, host: string): boolean {
  return wildcard ? host.endsWith(`.${name}`) : host === name;
}

/** Whether every host of `inner` is one of `outer`. */
export function hostCovers(outer: HostPattern, inner: HostPattern): boolean {
  if (!outer.wildcard) return !inner.wildcard && inner.name === outer.name;
  return inner.name.endsWith(`.${outer.name}`) || (inner.wildcard && inner.name === outer.name);
}
