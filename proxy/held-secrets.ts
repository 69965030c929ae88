import type { PolicySet } from '#policies';
import { createMatcher, type Matcher } from './redaction-matcher.ts';
import { literal } from './redaction-pattern.ts';
import { refused } from './refusal.ts';
import type { Secrets } from './secrets.ts';

/** Bytes of a secret that is looked for: a shorter one stands in requests by chance. */
const LENGTH_MIN = 12;
/** A secret that was rotated is looked for after this. */
const FRESH_MS = 5_000;
const BASIC = /^basic /i;

/**
 * The secrets that a policy names, for noticing one on its way out. Programs never get them: who sends one has it from elsewhere, and is
 * not helped to bring it anywhere. Looks at target and headers, as they stand, percent-decoded and in Basic; not at bodies.
 */
export class HeldSecrets {
  readonly #secrets: Secrets;
  readonly #now: () => number;
  #of: PolicySet | undefined;
  #values: readonly string[] = [];
  #matcher: Matcher | undefined;
  #readAt = 0;

  constructor(secrets: Secrets, now = () => performance.now()) {
    this.#secrets = secrets;
    this.#now = now;
  }

  /** `pathAndQuery` as the target has them; headers as names and values in turn. @throws {OutriderError} EGRESS_DENIED, secret_egress */
  assertAbsent(
    set: PolicySet,
    pathAndQuery: string,
    rawHeaders: readonly string[],
    rule: string | null,
  ): void {
    const matcher = this.#matcherOf(set);
    if (!matcher) return;
    let text = `${pathAndQuery}\n${percentDecoded(pathAndQuery)}`;
    for (let at = 0; at < rawHeaders.length; at += 2) {
      // The token of the hop is the sidecar's own.
      if (isTokenOfHop(rawHeaders[at] ?? '')) continue;
      const value = rawHeaders[at + 1] ?? '';
      text += `\n${value}\n${basicDecoded(value)}`;
    }
    if (matcher.occurrences(Buffer.from(text)).length > 0)
      throw refused('EGRESS_DENIED', 'the request carries a secret of the mesh', 'secret_egress', {
        rule,
      });
  }

  /** One pass for all of them, however many they are; undefined where there are none. */
  #matcherOf(set: PolicySet): Matcher | undefined {
    const now = this.#now();
    if (this.#of === set && now - this.#readAt < FRESH_MS) return this.#matcher;
    const refs = [...set.datasources.values(), ...set.credentials.values()].map(
      ({ spec }) => spec.secretRef,
    );
    const values = [...new Set(refs)].flatMap((ref) => (ref === undefined ? [] : this.#read(ref)));
    const same =
      values.length === this.#values.length && values.every((v, at) => v === this.#values[at]);
    if (!same) this.#matcher = values.length === 0 ? undefined : matcherOf(values);
    this.#values = values;
    this.#of = set;
    this.#readAt = now;
    return this.#matcher;
  }

  /** One that cannot be read cannot be noticed either, and nothing else is to fail for it. */
  #read(ref: string): string[] {
    try {
      const value = this.#secrets.read(ref);
      return value.length < LENGTH_MIN ? [] : [value];
    } catch {
      return [];
    }
  }
}

function matcherOf(values: readonly string[]): Matcher {
  return createMatcher(values.map((value) => literal(Buffer.from(value))));
}

const TOKEN_OF_HOP = 'proxy-authorization';

function isTokenOfHop(name: string): boolean {
  return name.length === TOKEN_OF_HOP.length && name.toLowerCase() === TOKEN_OF_HOP;
}

function percentDecoded(text: string): string {
  if (!text.includes('%')) return '';
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}

function basicDecoded(value: string): string {
  if (!BASIC.test(value)) return '';
  const [, credentials] = /^basic +(\S+)$/i.exec(value) ?? [];
  return credentials === undefined ? '' : Buffer.from(credentials, 'base64').toString('latin1');
}
