import { namesCaller } from '#core/identity-fields';
import { hyphened, knownNames } from '#core/known-names';
import { madeOnce } from '#core/made-once';
import { namesOtherRequest } from '#core/override-fields';

/** Flat: name, value, name, value, as Node and undici take them. */
export type FlatHeaders = string[];

/** Fields of one connection, never of the message (RFC 9110 7.6.1), and those that the proxy writes itself. */
const CONNECTION_FIELDS = new Set([
  'connection',
  'expect',
  'host',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Of products whose names do not tell that they name a caller. */
const IDENTITY_PREFIXES = [
  'x-amz-',
  'x-amzn-',
  'x-clickhouse-',
  'x-goog-',
  'x-scope-orgid',
  'x-webauth-',
  'cf-access-',
];

/** Ours, in either direction: never passed on. */
const OWN_PREFIXES = ['proxy-', 'x-outrider-'];
const OWN_FIELDS = new Set(['x-request-id', 'x-datasource']);

export interface RequestHeaderRules {
  readonly host: string;
  /** Whether everything that names the caller, or carries a credential of its own, goes. */
  readonly anonymous: boolean;
  /** Further names to remove, in lower case. */
  readonly strip: readonly string[];
  /** Put in last; each wins over what was there and appears once. */
  readonly inject: readonly (readonly [name: string, value: string])[];
}

/**
 * The headers of the upstream request, from those that arrived, without those that would make another request of it. The fields of the connection go first, those that `Connection`
 * names included, so that no caller can have an injected one removed.
 */
export function upstreamHeaders(raw: readonly string[], rules: RequestHeaderRules): FlatHeaders {
  const named = connectionOptions(raw);
  const removed = [...rules.inject.map(([name]) => name.toLowerCase()), ...rules.strip];
  const goes = (name: string): boolean =>
    isOfConnection(name, named) ||
    isForNobody(name) ||
    removed.includes(name) ||
    (ODD.test(name) && removed.map(hyphened).includes(hyphened(name))) ||
    (rules.anonymous && (namesCaller(name) || isOfProduct(name)));

  const out: FlatHeaders = ['host', rules.host];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    if (!goes(name.toLowerCase())) out.push(name, raw[at + 1] ?? '');
  }
  for (const [name, value] of rules.inject) out.push(name, value);
  return out;
}

/** How the headers of an answer go back. */
export interface DownstreamRules {
  /** Of the answer; absent for trailers. Those of 1xx and 204 have no body, and so no length (RFC 9110 8.6). */
  readonly status?: number;
  /** Whether cookies go, which would be a credential made from ours. */
  readonly anonymous: boolean;
  /** Hides secrets in names and values. */
  readonly cover: (texts: string[]) => string[];
}

/** The headers of an upstream's answer that may go back. */
export function downstreamHeaders(raw: readonly Buffer[], how: DownstreamRules): FlatHeaders {
  return downstreamText(
    raw.map((part) => part.toString('latin1')),
    how,
  );
}

/** As `downstreamHeaders`, of names and values that are text already. The list is nobody's to change. */
export function downstreamText(
  text: readonly string[],
  { status = 200, anonymous, cover }: DownstreamRules,
): FlatHeaders {
  const hasLength = status >= 200 && status !== 204;
  const returned = anonymous ? returnedWithoutCookies(text) : returnedAll(text);
  return cover(hasLength ? returned : without(returned, ['content-length']));
}

const returnedAll = madeOnce((text: readonly string[]) => {
  const named = connectionOptions(text);
  return kept(text, (name) => !isOfConnection(name, named) && !isOwn(name));
});

const returnedWithoutCookies = madeOnce((text: readonly string[]) =>
  without(returnedAll(text), ['set-cookie', 'set-cookie2']),
);

function without(raw: readonly string[], names: readonly string[]): FlatHeaders {
  return kept(raw, (name) => !names.includes(name));
}

/** Those whose name, in lower case, is to stay; frozen, since answers that begin with the same head share them. */
function kept(raw: readonly string[], stays: (name: string) => boolean): FlatHeaders {
  const out: FlatHeaders = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    if (stays(name.toLowerCase())) out.push(name, raw[at + 1] ?? '');
  }
  Object.freeze(out);
  return out;
}

/** Every value of one header, in order. `name` is in lower case. */
export function valuesOf(raw: readonly string[], name: string): string[] {
  const values: string[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const each = raw[at] ?? '';
    // Most names are told apart by their length.
    if (each.length === name.length && each.toLowerCase() === name) values.push(raw[at + 1] ?? '');
  }
  return values;
}

const NONE: ReadonlySet<string> = new Set();

function connectionOptions(raw: readonly string[]): ReadonlySet<string> {
  const values = valuesOf(raw, 'connection');
  if (values.length === 0) return NONE;
  const named = values.flatMap((value) => value.toLowerCase().split(','));
  return new Set(named.map((option) => option.trim()));
}

/** `Content-Length` frames the message: a `Connection` that names it is a trick, and is not followed. */
function isOfConnection(name: string, named: ReadonlySet<string>): boolean {
  return CONNECTION_FIELDS.has(name) || (named.has(name) && name !== 'content-length');
}

function isOwn(name: string): boolean {
  return OWN_FIELDS.has(name) || OWN_PREFIXES.some((prefix) => name.startsWith(prefix));
}

/** Separators that some servers take for hyphens: see `hyphened`. */
const ODD = /[^0-9a-z-]/;

const isForNobody = knownNames((name) => {
  const known = hyphened(name);
  const frames = CONNECTION_FIELDS.has(known) || (known === 'content-length' && name !== known);
  return isOwn(known) || frames || namesOtherRequest(name);
});

const isOfProduct = knownNames((name) =>
  IDENTITY_PREFIXES.some((prefix) => hyphened(name).startsWith(prefix)),
);
