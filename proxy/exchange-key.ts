import { OutriderError } from '#core/errors';
import { readSigningKey } from '#core/keys';
import { generateSigningKey, type SigningKey } from '#core/tokens';
import { EXCHANGE_ISSUER } from './token-exchange.ts';

/**
 * The key that signs exchanged tokens. Ours alone unless several proxies share one: what it signed is then refused by the next run, and
 * asked for again.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function exchangeKeyOf(path: string | undefined): SigningKey {
  if (path === undefined) return generateSigningKey(EXCHANGE_ISSUER);
  const key = readSigningKey(path);
  if (key.issuer === EXCHANGE_ISSUER) return key;
  throw new OutriderError(
    'CONFIG_INVALID',
    `proxy.exchange.signingKey: ${path} is the key of ${key.issuer}, not of ${EXCHANGE_ISSUER}`,
  );
}
