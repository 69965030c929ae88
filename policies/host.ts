import { embeddedV4, formatIp, parseIp } from './ip.ts';
import { isTransitionForm } from './ip-class.ts';
import type { Reason } from './reason.ts';

/** A host in its one spelling: a lower-case name without a trailing dot, or an address. */
export interface Host {
  /** A name, a dotted quad, or an IPv6 address as RFC 5952 writes it, without brackets. */
  readonly text: string;
  /** The 16 bytes where the host is an address. */
  readonly ip: Uint8Array | null;
}

/** RFC 1035: octets of a name without the root's dot, and of one label. */
export const NAME_MAX = 253;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const PLAIN = /^[a-z0-9._-]+$/;
/** Any spelling that some parser takes for an IPv4 address: WHATWG's "ends in a number". */
const NUMBER_LABEL = /^(?:\d+|0x[0-9a-f]*)$/;

/**
 * The host of an authority, canonical. Case is folded and one trailing dot removed; everything else that is not
 * already in its one spelling is refused: percent-encodings, empty labels, short, octal or hexadecimal addresses, zones,
 * brackets around a name, transition forms of IPv4, anything but ASCII. Punycode is compared as it is written.
 */
export function parseHost(text: string): Host | Reason {
  // What nearly every name is made of, in one look: none of the refusals below is about such a text.
  if (PLAIN.test(text)) return parseName(text);
  if (/\P{ASCII}/u.test(text)) return 'non_ascii_host';
  if (/[\p{Cc} ]/u.test(text)) return 'control_char';
  if (text.includes('@')) return 'userinfo_forbidden';
  if (text.includes('#')) return 'fragment_forbidden';
  if (text.includes('\\')) return 'request_target_malformed';
  if (text.startsWith('[')) return parseBracketed(text);
  return parseName(text.toLowerCase());
}

/** `host:port` as a URL writes it, without the scheme's default port. */
export function authorityText(host: Host, port: number, defaultPort: number): string {
  const name = host.ip && !embeddedV4(host.ip) ? `[${host.text}]` : host.text;
  return port === defaultPort ? name : `${name}:${port}`;
}

/** An authority, canonical. */
export interface Authority {
  readonly host: Host;
  /** Null where it names none. */
  readonly port: number | null;
}

/** Programs ask few hosts over and over, and some any. Longer ones than a name and a port are not kept. */
const KNOWN_MAX = 256;
const KNOWN_MAX_CHARACTERS = NAME_MAX + ':65535'.length;
const knownAuthorities = new Map<string, Authority>();

/** Host and port of `host[:port]`. */
export function parseAuthority(text: string): Authority | Reason {
  const before = knownAuthorities.get(text);
  if (before) return before;
  const split = splitAuthority(text);
  if (typeof split === 'string') return split;
  const host = parseHost(split.host);
  if (typeof host === 'string') return host;
  const authority = { host, port: split.port };
  if (text.length > KNOWN_MAX_CHARACTERS) return authority;
  if (knownAuthorities.size >= KNOWN_MAX) knownAuthorities.clear();
  knownAuthorities.set(text, authority);
  return authority;
}

/** Splits `host[:port]`; a port must be plain decimal, 1 to 65535, without leading zeros. */
function splitAuthority(authority: string): { host: string; port: number | null } | Reason {
  const colon = authority.startsWith('[')
    ? authority.indexOf(':', authority.lastIndexOf(']'))
    : authority.indexOf(':');
  if (colon === -1) return { host: authority, port: null };
  if (authority.includes('@')) return 'userinfo_forbidden';
  const port = authority.slice(colon + 1);
  if (!/^[1-9]\d{0,4}$/.test(port) || Number(port) > 65535) return 'port_malformed';
  return { host: authority.slice(0, colon), port: Number(port) };
}

function parseBracketed(text: string): Host | Reason {
  const inner = /^\[([^\][]*)\]$/.exec(text)?.[1];
  if (inner === undefined) return 'host_malformed';
  // A zone is an address of this machine's own network, however it is spelled.
  if (inner.includes('%')) return 'ip_not_allowed';
  const ip = inner.includes(':') ? parseIp(inner) : undefined;
  if (!ip) return 'host_malformed';
  if (isTransitionForm(ip)) return 'ip_not_allowed';
  return { text: formatIp(ip), ip };
}

function parseName(lower: string): Host | Reason {
  const name = lower.endsWith('.') ? lower.slice(0, -1) : lower;
  if (name === '' || name.length > NAME_MAX) return 'host_malformed';
  const ip = parseIp(name);
  if (ip && name.includes(':')) return 'host_malformed';
  // An address has no root dot: what resolvers make of one with it differs.
  if (ip) return name === lower ? { text: name, ip } : 'ip_not_allowed';
  const labels = name.split('.');
  if (NUMBER_LABEL.test(labels.at(-1) ?? '')) return 'ip_not_allowed';
  if (!labels.every((label) => LABEL.test(label))) return 'host_malformed';
  return { text: name, ip: null };
}
