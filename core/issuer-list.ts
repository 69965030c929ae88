import { duration } from './config.ts';
import { OutriderError } from './errors.ts';

/** Keys of an issuer in the configuration of every part that takes its tokens. */
export const keyTimes = {
  // Whoever sends tokens with made-up keys decides how often there would be a fetch.
  jwksCooldown: duration('The least time between two fetches of its keys.', 5_000, 100),
  jwksMaxAge: duration(
    'How long its keys are good while they cannot be fetched; at least `jwksCooldown`.',
    3_600_000,
    1_000,
  ),
};

interface ListedIssuer {
  readonly issuer: string;
  readonly jwksCooldown: number;
  readonly jwksMaxAge: number;
}

/**
 * Of the issuers in `key` whose tokens are verified by keys, each is named once, and known keys are good until they may be fetched again.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function assertIssuerList(key: string, issuers: readonly ListedIssuer[]): void {
  const problems = issuers.flatMap(({ issuer, jwksCooldown, jwksMaxAge }, index) => [
    ...(issuers.findIndex((other) => other.issuer === issuer) < index
      ? [`${key}: ${issuer} is there twice, and only one of the two would be used`]
      : []),
    ...(jwksMaxAge < jwksCooldown
      ? [
          `${key}: jwksMaxAge of ${issuer} is less than its jwksCooldown, so that nobody could be let in for the time between`,
        ]
      : []),
  ]);
  if (problems.length > 0) throw new OutriderError('CONFIG_INVALID', problems.join('\n'));
}
