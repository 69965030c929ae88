import { namesCaller } from '#core/identity-fields';
import { hyphened, knownNames } from '#core/known-names';
import { madeOnce } from '#core/made-once';
import { namesOtherRequest } from '#core/override-fields';

/** Headers that mean one connection only (RFC 9110, 7.6.1), and those that this hop writes itself. */
const ONE_HOP = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'host',
  'content-length',
  'expect',
]);

/** What a program says about who is calling, or in the name of a hop. `Proxy` is what CGI makes HTTP_PROXY of (CVE-2016-5385). */
const SPOOFED =
  /^(?:proxy(?:-|$)|x-outrider-|x-forwarded-|forwarded$|via$|x-real-ip$|x-client-ip$|x-(?:sandbox|execution)-|x-datasource$|x-request-id$|max-forwards$)/;

const isSpoofed = knownNames((name) => {
  const known = hyphened(name);
  return SPOOFED.test(known) || ONE_HOP.has(known) || namesOtherRequest(name);
});

/**
 * The headers of a request that go on to the proxy: a flat list of names and values, in their order; without those that name the caller
 * where the proxy puts a credential of its own. What is to be injected is added by the caller afterwards, so that nothing in the list
 * can remove or double it.
 */
export function forwardedHeaders(
  rawHeaders: readonly string[],
  stripIdentity: boolean,
): readonly string[] {
  return stripIdentity ? anonymousHeaders(rawHeaders) : ownHeaders(rawHeaders);
}

const ownHeaders = madeOnce((rawHeaders: readonly string[]) => {
  const nominated = connectionOptions(rawHeaders);
  return filtered(
    rawHeaders,
    (name) => !ONE_HOP.has(name) && !nominated.has(name) && !isSpoofed(name),
  );
});

const anonymousHeaders = madeOnce((rawHeaders: readonly string[]) =>
  filtered(
    ownHeaders(rawHeaders),
    (name, value) => !namesCaller(name) || isAwsSignature(name, value),
  ),
);

/** The headers of an answer that go back to the program, frozen. `x-outrider-*` can only be the proxy's own. */
export const returnedHeaders: (rawHeaders: readonly string[]) => string[] = madeOnce(
  (rawHeaders) => {
    const nominated = connectionOptions(rawHeaders);
    return filtered(
      rawHeaders,
      (name) =>
        name === 'content-length' ||
        (!ONE_HOP.has(name) && !nominated.has(name) && !name.startsWith('proxy-')),
    );
  },
);

/**
 * The chunks of an upload hang on it and on what it covers: the proxy reads that, and removes it. It holds no secret, only what was made with
 * one.
 */
function isAwsSignature(name: string, value: string): boolean {
  return name === 'authorization' ? /^AWS4?[- ]/.test(value) : name.startsWith('x-amz-');
}

function filtered(
  rawHeaders: readonly string[],
  keep: (name: string, value: string) => boolean,
): string[] {
  const kept: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name, value] = [rawHeaders[at] ?? '', rawHeaders[at + 1] ?? ''];
    if (keep(name.toLowerCase(), value)) kept.push(name, value);
  }
  Object.freeze(kept); // for all that begin with the same head
  return kept;
}

const CONNECTION = 'connection';
const NONE: ReadonlySet<string> = new Set();

function connectionOptions(rawHeaders: readonly string[]): ReadonlySet<string> {
  let options: Set<string> | undefined;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at];
    if (name?.length !== CONNECTION.length || name.toLowerCase() !== CONNECTION) continue;
    options ??= new Set();
    for (const option of (rawHeaders[at + 1] ?? '').split(','))
      options.add(option.trim().toLowerCase());
  }
  return options ?? NONE;
}
