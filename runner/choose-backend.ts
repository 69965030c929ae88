import { OutriderError } from '#core/errors';
import { type BackendName, TIERS, type Tier } from './backends/backend.ts';

/** A configured backend, as requests are held against it. */
export interface KnownBackend {
  readonly name: BackendName;
  readonly tier: Tier;
  /** The first is the default; none where the backend has no images. */
  readonly images: readonly string[];
  /** Whether memory is limited as address space, for want of control groups. */
  readonly limitsAddressSpace: boolean;
  /** Why it cannot be used now, and what a person should do; undefined where it can. */
  readonly problem: string | undefined;
}

/**
 * The backend of a request (D5). One that is named is taken or refused. Otherwise it is the first configured one that is as strong
 * as is demanded: a rule, not a fallback, because it does not look at whether that one can be used.
 * @throws {OutriderError} BACKEND_UNAVAILABLE, BACKEND_TOO_WEAK
 */
export function chooseBackend(
  backends: readonly KnownBackend[],
  asked: string,
  demanded: readonly (Tier | undefined)[],
): KnownBackend {
  const least = Math.max(0, ...demanded.map((tier) => (tier ? TIERS.indexOf(tier) : 0)));
  const strongEnough = ({ tier }: KnownBackend) => TIERS.indexOf(tier) >= least;
  const names = backends.map(({ name }) => name).join(', ');
  const chosen =
    asked === '' ? backends.find(strongEnough) : backends.find(({ name }) => name === asked);
  if (!chosen) {
    if (asked === '') throw tooWeak(`none of ${names} isolates by ${TIERS[least] ?? ''}`);
    throw new OutriderError(
      'BACKEND_UNAVAILABLE',
      `this runner has no backend "${asked}", only ${names}`,
    );
  }
  if (!strongEnough(chosen))
    throw tooWeak(`${chosen.name} isolates by ${chosen.tier}; ${TIERS[least] ?? ''} is demanded`);
  if (chosen.problem !== undefined)
    throw new OutriderError(
      'BACKEND_UNAVAILABLE',
      `${chosen.name} cannot isolate here: ${chosen.problem}`,
    );
  return chosen;
}

/**
 * The image of a request: in the runner's allowlist and in the role's, which is the runner's default where the role names none.
 * Without being asked for one, the first that both allow. Empty for a backend without images.
 * @throws {OutriderError} IMAGE_NOT_ALLOWED
 */
export function chooseImage(
  { name, images }: KnownBackend,
  asked: string,
  ofRole: readonly string[] | undefined,
): string {
  if (images.length === 0) {
    if (asked !== '') throw new OutriderError('IMAGE_NOT_ALLOWED', `${name} has no images`);
    return '';
  }
  const allowed = ofRole ? images.filter((image) => ofRole.includes(image)) : images.slice(0, 1);
  const image = asked === '' ? allowed[0] : allowed.find((candidate) => candidate === asked);
  if (image === undefined)
    throw new OutriderError(
      'IMAGE_NOT_ALLOWED',
      asked === '' ? 'no image is allowed to this role' : `the image "${asked}" is not allowed`,
    );
  return image;
}

function tooWeak(message: string): OutriderError {
  return new OutriderError('BACKEND_TOO_WEAK', message);
}
