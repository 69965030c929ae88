import { CLOCK_TOLERANCE_S, TOKEN_LIFE_S, type VerifiedExecution } from '#core/tokens';
import { REASONS } from '#policies';
import { refused } from './refusal.ts';

/** What a revocation can name; `all` is every token that was issued until now, where it is not understood what is meant. */
export type RevokedSubject =
  | { readonly kind: 'exec' | 'sandbox' | 'token'; readonly id: string }
  | { readonly kind: 'all' };

type Tokens = Pick<VerifiedExecution, 'execId' | 'sandboxId' | 'tokenId' | 'issuedAt'>;

/** Longer than any token that a revocation can concern is valid: twice its life, which is what a clock that is set back once can make of it. */
const KEEP_MS = 2 * (TOKEN_LIFE_S + 2 * CLOCK_TOLERANCE_S) * 1_000;
/** Of each kind, about 100 bytes each; beyond it whatever is nearest to its end is forgotten first. */
const ENTRIES_MAX = 200_000;

/** What runners have said is over. Held against every token on every request, whether its signature was checked just now or not. */
export class Revocations {
  /** By id, when it may be forgotten: in the order of arrival, which is that of the ends. */
  readonly #entries = {
    exec: new Map<string, number>(),
    sandbox: new Map<string, number>(),
    token: new Map<string, number>(),
  };
  readonly #now: () => number;
  readonly #wallNow: () => number;
  /** When everything was revoked last, by both clocks. */
  #all: { readonly at: number; readonly wallAt: number } | undefined;
  /** Told of each that is news, so that what is under way can be cut. */
  onRevoked: (subject: RevokedSubject) => void = () => {};

  /** `now`: milliseconds of a clock that only goes forward, which says what is forgotten; `wallNow`: since 1970, in which tokens are dated. */
  constructor(
    now: () => number = () => performance.now(),
    wallNow: () => number = () => Date.now(),
  ) {
    this.#now = now;
    this.#wallNow = wallNow;
  }

  get size(): number {
    const { exec, sandbox, token } = this.#entries;
    return exec.size + sandbox.size + token.size;
  }

  /** Kept until every token that it concerns has run out, whatever the runner says of that. */
  add(subject: RevokedSubject): void {
    const now = this.#now();
    if (subject.kind === 'all') this.#all = { at: now, wallAt: this.#wallNow() };
    else {
      const entries = this.#entries[subject.kind];
      if (entries.has(subject.id)) return;
      forget(entries, now);
      entries.set(subject.id, now + KEEP_MS);
    }
    this.onRevoked(subject);
  }

  has({ execId, sandboxId, tokenId, issuedAt }: Tokens): boolean {
    return (
      this.#entries.exec.has(execId) ||
      this.#entries.sandbox.has(sandboxId) ||
      this.#entries.token.has(tokenId) ||
      (this.#all !== undefined && issuedAt <= this.#allIssuedBefore(this.#all))
    );
  }

  /** Seconds since 1970, as the clock said then or as it would have by what it says now, whichever is later: it may have been set since. */
  #allIssuedBefore({ at, wallAt }: { at: number; wallAt: number }): number {
    return Math.ceil(Math.max(wallAt, this.#wallNow() - (this.#now() - at)) / 1_000);
  }

  /** @throws {OutriderError} TOKEN_REVOKED */
  assertGood(execution: Tokens): void {
    if (this.has(execution)) throw tokenRevoked();
  }
}

function forget(entries: Map<string, number>, now: number): void {
  for (const [id, until] of entries) {
    if (until > now && entries.size < ENTRIES_MAX) return;
    entries.delete(id);
  }
}

/** What a caller is told whose execution is over, and why what it had begun is cut. */
export function tokenRevoked() {
  return refused('TOKEN_REVOKED', REASONS.jwt_revoked.text, 'jwt_revoked');
}

/** Whether a revocation is about this execution. */
export function concerns(subject: RevokedSubject, execution: Tokens): boolean {
  if (subject.kind === 'all') return true;
  const { execId, sandboxId, tokenId } = execution;
  return { exec: execId, sandbox: sandboxId, token: tokenId }[subject.kind] === subject.id;
}
