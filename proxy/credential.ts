import type { CredentialBinding } from '#policies';
import { refused } from './refusal.ts';
import type { Secrets } from './secrets.ts';

/** What one credential puts into a request, and what must then not come back. */
export interface Injection {
  readonly inject: readonly (readonly [name: string, value: string])[];
  /** Further headers of the caller that go, in lower case. */
  readonly strip: readonly string[];
  readonly secrets: readonly string[];
}

/** What was asked with a credential is answered whole and plain: a piece or an encoding of it could carry the secret past the redaction. */
export const WHOLE_ANSWER = {
  strip: ['range', 'if-range'],
  inject: [['accept-encoding', 'identity']],
} as const;

export const NO_INJECTION: Injection = { inject: [], strip: [], secrets: [] };

/**
 * The injection of a binding, its secret read now.
 * @throws {OutriderError} CREDENTIAL_UNAVAILABLE; UNIMPLEMENTED for sigv4, oauth2 and mtls
 */
export function injectionOf({ metadata, spec }: CredentialBinding, secrets: Secrets): Injection {
  const { inject, secretRef, stripClient = [], redact = true } = spec;
  if (!('header' in inject))
    throw refused(
      'UNIMPLEMENTED',
      `the credential ${metadata.name} is of a kind that is not in this version`,
      'credential_unavailable',
    );
  const secret = secrets.read(secretRef);
  const value = inject.format.replaceAll('{secret}', () => secret);
  return {
    inject: [[inject.header, value]],
    strip: stripClient.map((name) => name.toLowerCase()),
    secrets: redact ? [secret] : [],
  };
}
