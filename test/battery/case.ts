import { readFileSync } from 'node:fs';

/** One case of a case file: how to send it and what must happen. Fields are kept as they stand; whoever uses one checks it. */
export interface Case {
  readonly id: string;
  readonly category: string;
  readonly description: string;
  readonly send: Fields & { readonly kind: string; readonly to: string };
  readonly expect: Fields & { readonly outcome: string };
}

export type Fields = Readonly<Record<string, unknown>>;

/** What is wrong with a case: it can neither pass nor be called sent. */
export class CaseUnusable extends Error {}

/** The fields of each kind of case, besides `kind` and `to`: those that somebody here reads. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  raw: ['bytes', 'encoding'],
  'raw-hex': ['hex'],
  request: ['body', 'headers', 'method', 'target', 'upstream_first', 'url'],
  socks5: ['addr_hex', 'atyp', 'cmd', 'domain', 'domain_hex', 'port'],
  dns: ['answers', 'answers_sequence', 'behaviour', 'cname', 'host', 'request', 'requests'],
  udp: ['dst', 'payload'],
  tls: ['connect', 'ech', 'fragment', 'padding', 'sni'],
  'tls-http': ['bytes', 'connect', 'encoding', 'sni'],
  'tls-h2': ['authority', 'connect', 'headers', 'method', 'sni', 'target'],
  relay: ['request'],
  tunnel: ['bytes', 'connect', 'encoding'],
  'upstream-tls': ['cert'],
  'upstream-response': ['bytes', 'encoding'],
  x509: [],
  abort: ['after_bytes', 'request'],
  config: ['bindings', 'name', 'secret'],
  scan: [],
  fault: ['fault'],
  jwt: ['variant'],
  scenario: ['name'],
};

/** Where a case can be sent. */
const PLACES = new Set([
  'sidecar-forward',
  'sidecar-alias',
  'sidecar-socks5',
  'credproxy',
  'sidecar|credproxy',
  'policy-loader',
  'origin',
  'network',
  'all-outputs',
]);

/** Reads a case file. @throws {CaseUnusable} naming the case that lacks a field, or has another's id */
export function readCases(path: string): Case[] {
  const file: { cases?: unknown } = JSON.parse(readFileSync(path, 'utf8'));
  if (!Array.isArray(file.cases)) throw new CaseUnusable(`${path} has no list "cases"`);
  const ids = new Set<string>();
  return file.cases.map((one: Partial<Case>, index) => {
    const { id = `#${index}`, category, send, expect } = one;
    if (!category || !send?.kind || !send.to || !expect?.outcome)
      throw new CaseUnusable(`${id} lacks category, send.kind, send.to or expect.outcome`);
    if (ids.has(id)) throw new CaseUnusable(`${id} is the id of two cases`);
    ids.add(id);
    return { id, category, description: one.description ?? '', send, expect };
  });
}

/** @throws {CaseUnusable} naming the kind, the place or the field that nobody here reads: what is passed over has not been tested */
export function assertUnderstood({ send }: Case): void {
  const { kind, to, ...rest } = send;
  const fields = FIELDS[kind];
  if (!fields) throw new CaseUnusable(`nobody knows the kind "${kind}"`);
  if (!PLACES.has(to)) throw new CaseUnusable(`nobody knows the place "${to}"`);
  const strange = Object.keys(rest).find((name) => !fields.includes(name));
  if (strange) throw new CaseUnusable(`nobody knows the field "${strange}" of ${kind}`);
}

/** A text field; `undefined` where there is none. @throws {CaseUnusable} where it is something else */
export function textOf(fields: Fields, name: string): string | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw new CaseUnusable(`${name} is not text`);
  return value;
}

/** The same of a whole number, which may stand as text. */
export function numberOf(fields: Fields, name: string): number | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  const number = typeof value === 'string' && value !== '' ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isFinite(number))
    throw new CaseUnusable(`${name} is not a number`);
  return number;
}

/** The same of a list of texts; one text is a list of it. */
export function textsOf(fields: Fields, name: string): readonly string[] | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string' || typeof value === 'number') return [String(value)];
  if (!Array.isArray(value)) throw new CaseUnusable(`${name} is not a list`);
  return value.map(String);
}

/** The same of a list of numbers. */
export function numbersOf(fields: Fields, name: string): readonly number[] | undefined {
  return textsOf(fields, name)?.map(Number);
}

/** Pairs of names and texts, from a mapping or a list of pairs, which can say a name twice; empty where there is none. */
export function pairsOf(fields: Fields, name: string): readonly (readonly [string, string])[] {
  const value = fields[name] ?? {};
  if (typeof value !== 'object') throw new CaseUnusable(`${name} is not a mapping`);
  const pairs: unknown[] = Array.isArray(value) ? value : Object.entries(value);
  return pairs.flatMap((pair) => {
    if (!Array.isArray(pair) || pair.length !== 2)
      throw new CaseUnusable(`${name} is not a list of pairs`);
    const [key, said]: unknown[] = pair;
    return (Array.isArray(said) ? said : [said]).map(
      (one: unknown) => [String(key), String(one)] as const,
    );
  });
}
