import { type KeyObject, sign, verify } from 'node:crypto';
import { OutriderError } from '#core/errors';
import { isRecord } from '#core/is-record';
import { keyId, type TrustedKey } from './bundle-keys.ts';

/** What the payload is; part of what is signed, so that nothing signed for another purpose passes for a bundle. */
const PAYLOAD_TYPE = 'application/vnd.outrider.policy-bundle.v1+json';
const SIGNATURES_MAX = 16;

/**
 * Signs bytes with Ed25519 and wraps both in a DSSE envelope, which other tools can verify, too.
 * @see https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
 */
export function seal(payload: Buffer, key: KeyObject): string {
  const sig = sign(null, signedBytes(payload), key).toString('base64');
  const envelope = {
    payloadType: PAYLOAD_TYPE,
    payload: payload.toString('base64'),
    signatures: [{ keyid: keyId(key), sig }],
  };
  return `${JSON.stringify(envelope, null, 2)}\n`;
}

/**
 * The payload of an envelope that one of the keys has signed. Not a byte of the payload is interpreted before that is known.
 * @throws {OutriderError} POLICY_INVALID
 */
export function unseal(
  text: string,
  keys: readonly TrustedKey[],
): { readonly payload: Buffer; readonly keyId: string } {
  const { payload, signatures } = parseEnvelope(text);
  const bytes = signedBytes(payload);
  for (const signature of signatures) {
    // A `keyid` is a hint that anybody can write: every key is tried, whatever it says.
    const signer = keys.find(({ key }) => verify(null, bytes, key, signature));
    if (signer) return { payload, keyId: signer.id };
  }
  throw invalid(
    signatures.length === 0
      ? 'the bundle is not signed'
      : 'the bundle is not signed by a key that is trusted here (policyKeys)',
  );
}

/** DSSE's pre-authentication encoding. */
function signedBytes(payload: Buffer): Buffer {
  const head = `DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

function parseEnvelope(text: string): { payload: Buffer; signatures: Buffer[] } {
  const value = parseJson(text);
  if (!isRecord(value) || typeof value['payload'] !== 'string' || !isList(value['signatures']))
    throw invalid('the file is no policy bundle: make one with `outrider policy bundle`');
  if (value['payloadType'] !== PAYLOAD_TYPE)
    throw invalid('the file is signed for another purpose than a policy bundle of this version');
  if (value['signatures'].length > SIGNATURES_MAX)
    throw invalid(`the bundle has more than ${SIGNATURES_MAX} signatures`);
  const signatures = value['signatures'].map((one) =>
    Buffer.from(isRecord(one) && typeof one['sig'] === 'string' ? one['sig'] : '', 'base64'),
  );
  return { payload: Buffer.from(value['payload'], 'base64'), signatures };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid('the bundle is not JSON: is the file complete?', error);
  }
}

function isList(value: unknown): value is unknown[] {
  return Array.isArray(value);
}

function invalid(message: string, cause?: unknown): OutriderError {
  return new OutriderError('POLICY_INVALID', message, cause === undefined ? {} : { cause });
}
