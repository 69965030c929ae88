import type { PolicySet } from '#policies';
import { createMatcher, type Matcher } from './redaction-matcher.ts';
import { literal } from './redaction-pattern.ts';
import { refused } from './refusal.ts';
import { awsCredentialsOf } from './s3/credentials.ts';
import type { AwsCredentials } from './s3/sigv4.ts';
import type { Secrets } from './secrets.ts';

/** Bytes of a secret that is looked for: a shorter one stands in requests by chance. */
const LENGTH_MIN = 12;
/** A secret that was rotated is looked for after this. */
const FRESH_MS = 5_000;
const BASIC = /^basic /i;

/** What a request would carry out. */
export interface Outgoing {
  /** Empty where the policy says which host it is. */
  readonly host: string;
  readonly pathAndQuery: string;
  readonly rawHeaders: readonly string[];
}

interface Matchers {
  readonly exact: Matcher;
  /** Of secrets in lower case: hosts come in it, and names of headers over HTTP/2. */
  readonly anyCase: Matcher;
}

/**
 * The secrets that a policy names, for noticing one on its way out. Programs never get them: who sends one has it from elsewhere, and is
 * not helped to bring it anywhere. Looks at target and headers, as they stand, percent-decoded and in Basic, and at hosts and names of headers without case; not at bodies.
 */
export class HeldSecrets {
  readonly #secrets: Secrets;
  readonly #now: () => number;
  #of: PolicySet | undefined;
  #values: readonly string[] = [];
  #matchers: Matchers | undefined;
  #readAt = 0;

  constructor(secrets: Secrets, now = () => performance.now()) {
    this.#secrets = secrets;
    this.#now = now;
  }

  /** What goes out: headers are names and values in turn. Asked before the name of the host is. @throws {OutriderError} EGRESS_DENIED, secret_egress */
  assertAbsent(
    set: PolicySet,
    { host, pathAndQuery, rawHeaders }: Outgoing,
    rule: string | null,
  ): void {
    const matchers = this.#matchersOf(set);
    if (!matchers) return;
    // A label has no more than 63 characters: a longer secret would be asked for in several.
    let names = host.length < LENGTH_MIN ? '' : `${host}\n${host.replaceAll('.', '')}`;
    let text = `${pathAndQuery}\n${percentDecoded(pathAndQuery)}`;
    for (let at = 0; at < rawHeaders.length; at += 2) {
      // The token of the hop is the sidecar's own.
      const name = rawHeaders[at] ?? '';
      if (isTokenOfHop(name)) continue;
      const value = rawHeaders[at + 1] ?? '';
      if (name.length >= LENGTH_MIN) names += `\n${name}`;
      text += `\n${value}\n${basicDecoded(value)}`;
    }
    const { exact, anyCase } = matchers;
    if (isIn(exact, text) || (names !== '' && isIn(anyCase, names.toLowerCase())))
      throw refused('EGRESS_DENIED', 'the request carries a secret of the mesh', 'secret_egress', {
        rule,
      });
  }

  /** One pass for all of them, however many they are; undefined where there are none. */
  #matchersOf(set: PolicySet): Matchers | undefined {
    const now = this.#now();
    if (this.#of === set && now - this.#readAt < FRESH_MS) return this.#matchers;
    const values = [...new Set(heldOf(set).flatMap((held) => this.#read(held)))];
    const same =
      values.length === this.#values.length && values.every((v, at) => v === this.#values[at]);
    if (!same) this.#matchers = values.length === 0 ? undefined : matchersOf(values);
    this.#values = values;
    this.#of = set;
    this.#readAt = now;
    return this.#matchers;
  }

  /** One that cannot be read cannot be noticed either, and nothing else is to fail for it. */
  #read({ ref, signs }: Held): string[] {
    if (ref === undefined) return [];
    try {
      const value = this.#secrets.read(ref);
      const texts = signs ? secretTextsOf(awsCredentialsOf(value)) : [value];
      return texts.filter(({ length }) => length >= LENGTH_MIN);
    } catch {
      return [];
    }
  }
}

/** A slot that a policy names. */
interface Held {
  readonly ref: string | undefined;
  /** It holds what AWS requests are signed with: several texts, each of use without the others. */
  readonly signs: boolean;
}

function heldOf(set: PolicySet): Held[] {
  return [
    ...[...set.datasources.values()].map(({ spec: { secretRef, auth } }) => ({
      ref: secretRef,
      signs: auth.type === 'sigv4',
    })),
    ...[...set.credentials.values()].map(({ spec: { secretRef, inject } }) => ({
      ref: secretRef,
      signs: 'sigv4' in inject,
    })),
  ];
}

/** The id of a key is no secret: it stands in every request that is signed with it. */
function secretTextsOf({ secretAccessKey, sessionToken = '' }: AwsCredentials): string[] {
  return [secretAccessKey, sessionToken];
}

function matchersOf(values: readonly string[]): Matchers {
  const lower = values.map((value) => value.toLowerCase());
  const inLabels = lower.map((value) => value.replaceAll('.', ''));
  const folded = [...lower, ...inLabels].filter(({ length }) => length >= LENGTH_MIN);
  return { exact: matcherOf(values), anyCase: matcherOf([...new Set(folded)]) };
}

function matcherOf(values: readonly string[]): Matcher {
  return createMatcher(values.map((value) => literal(Buffer.from(value))));
}

function isIn(matcher: Matcher, text: string): boolean {
  return matcher.occurrences(Buffer.from(text)).length > 0;
}

const TOKEN_OF_HOP = 'proxy-authorization';

function isTokenOfHop(name: string): boolean {
  return name.length === TOKEN_OF_HOP.length && name.toLowerCase() === TOKEN_OF_HOP;
}

/** Escape by escape: one that is broken, or no UTF-8, hides none of the others. Secrets are ASCII. */
function percentDecoded(text: string): string {
  if (!text.includes('%')) return '';
  return text.replace(/%([0-9a-f]{2})/gi, (_escape, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function basicDecoded(value: string): string {
  if (!BASIC.test(value)) return '';
  const [, credentials] = /^basic +(\S+)$/i.exec(value) ?? [];
  return credentials === undefined ? '' : Buffer.from(credentials, 'base64').toString('latin1');
}
