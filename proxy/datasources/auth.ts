import { OutriderError } from '#core/errors';
import type { DatasourceCall, PlannedCall } from './adapter.ts';

/**
 * The headers that carry a datasource's credential, and the texts in them that must not come back.
 * @throws {OutriderError} CREDENTIAL_UNAVAILABLE
 */
export function authOf({
  spec: { auth },
  secret,
}: Pick<PlannedCall, 'spec' | 'secret'>): Pick<DatasourceCall, 'inject' | 'secrets'> {
  if (auth.type === 'none') return { inject: [], secrets: [] };
  if (secret === undefined)
    throw new OutriderError('CREDENTIAL_UNAVAILABLE', 'the datasource names no secret');
  if (auth.type === 'header') return { inject: [[auth.name, secret]], secrets: [secret] };
  if (auth.type === 'bearer' || auth.type === 'oauth2')
    return { inject: [['authorization', `Bearer ${secret}`]], secrets: [secret] };
  // A parameter and a signature are in no header as they are: their types put them where they belong.
  if (auth.type !== 'basic') return { inject: [], secrets: [secret] };
  const pair = Buffer.from(`${auth.username}:${secret}`).toString('base64');
  return { inject: [['authorization', `Basic ${pair}`]], secrets: [secret, pair] };
}
