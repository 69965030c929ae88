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

/** What a caller could name itself, or a credential of its own, with. */
const IDENTITY_FIELDS = new Set([
  'authorization',
  'cookie',
  'cookie2',
  'dpop',
  'forwarded',
  'via',
  'client-ip',
  'true-client-ip',
  'remote-user',
  'x-api-key',
  'x-client-ip',
  'x-real-ip',
  'x-remote-user',
  'x-user',
  'x-username',
  'x-scope-orgid',
  'x-csrf-token',
]);
const IDENTITY_PREFIXES = [
  'x-forwarded-',
  'x-auth-',
  'x-amz-',
  'x-amzn-',
  'x-clickhouse-',
  'x-goog-',
  'x-ms-client-principal',
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
 * The headers of the upstream request, from those that arrived. The fields of the connection go first, those that `Connection`
 * names included, so that no caller can have an injected one removed.
 */
export function upstreamHeaders(raw: readonly string[], rules: RequestHeaderRules): FlatHeaders {
  const named = connectionOptions(raw);
  const injected = new Set(rules.inject.map(([name]) => name.toLowerCase()));
  const goes = (name: string): boolean =>
    isOfConnection(name, named) ||
    isOwn(name) ||
    injected.has(name) ||
    rules.strip.includes(name) ||
    (rules.anonymous && namesCaller(name));

  const out: FlatHeaders = ['host', rules.host];
  for (const [name, value] of pairs(raw)) if (!goes(name.toLowerCase())) out.push(name, value);
  for (const [name, value] of rules.inject) out.push(name, value);
  return out;
}

/**
 * The headers of an upstream's answer that may go back. `cover` hides secrets in names and values; `anonymous` also removes
 * cookies, which would be a credential made from ours.
 */
export function downstreamHeaders(
  raw: readonly Buffer[],
  how: { anonymous: boolean; cover: (text: string) => string },
): FlatHeaders {
  return downstreamText(
    raw.map((part) => part.toString('latin1')),
    how,
  );
}

/** As `downstreamHeaders`, of names and values that are text already. */
export function downstreamText(
  text: readonly string[],
  { anonymous, cover }: { anonymous: boolean; cover: (text: string) => string },
): FlatHeaders {
  const named = connectionOptions(text);
  const out: FlatHeaders = [];
  for (const [name, value] of pairs(text)) {
    const lower = name.toLowerCase();
    if (isOfConnection(lower, named) || isOwn(lower)) continue;
    if (anonymous && (lower === 'set-cookie' || lower === 'set-cookie2')) continue;
    out.push(cover(name), cover(value));
  }
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

function pairs(raw: readonly string[]): [string, string][] {
  const out: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) out.push([raw[at] ?? '', raw[at + 1] ?? '']);
  return out;
}

function connectionOptions(raw: readonly string[]): ReadonlySet<string> {
  const named = valuesOf(raw, 'connection').flatMap((value) => value.toLowerCase().split(','));
  return new Set(named.map((option) => option.trim()));
}

/** `Content-Length` frames the message: a `Connection` that names it is a trick, and is not followed. */
function isOfConnection(name: string, named: ReadonlySet<string>): boolean {
  return CONNECTION_FIELDS.has(name) || (named.has(name) && name !== 'content-length');
}

function isOwn(name: string): boolean {
  return OWN_FIELDS.has(name) || OWN_PREFIXES.some((prefix) => name.startsWith(prefix));
}

function namesCaller(name: string): boolean {
  return IDENTITY_FIELDS.has(name) || IDENTITY_PREFIXES.some((prefix) => name.startsWith(prefix));
}
