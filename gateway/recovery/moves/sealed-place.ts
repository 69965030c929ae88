import { OutriderError } from '#core/errors';
import type { KeyRing } from '../../sessions/key-ring.ts';
import { openText, sealText } from '../../sessions/seal.ts';
import type { SessionPlace } from './store.ts';

const KIND = 'outrider:move';

/**
 * How a place is written down for the other gateways: whoever else can read or write the store learns nothing of it, and can send no
 * session to a server of their own, nor one to where another went.
 */
export function sealPlace({ backend, upstreamId }: SessionPlace, key: string, ring: KeyRing) {
  return sealText(JSON.stringify([backend, upstreamId]), KIND, [key], ring);
}

/** The place that a gateway has noted under `key`. @throws {OutriderError} CONFIG_INVALID where no gateway with these keys did */
export function openPlace(text: string, key: string, ring: KeyRing): SessionPlace {
  const opened = openText(text, KIND, [key], ring);
  if (typeof opened !== 'string') {
    const place: unknown = JSON.parse(opened.text);
    if (Array.isArray(place) && typeof place[0] === 'string' && typeof place[1] === 'string')
      return { backend: place[0], upstreamId: place[1] };
  }
  throw new OutriderError(
    'CONFIG_INVALID',
    'where a session went cannot be read: gateways that share recoveryRedis or recoveryDirectory have the same sessionKeys',
    { cause: typeof opened === 'string' ? opened : 'malformed' },
  );
}
