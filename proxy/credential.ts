import type { Transform } from 'node:stream';
import type { CredentialBinding } from '#policies';
import type { Abandonment } from './abandon.ts';
import { refused } from './refusal.ts';
import type { Secrets } from './secrets.ts';
import type { DatasourceTrust, DatasourceTrusts } from './trust.ts';

/** What one credential puts into a request, and what must then not come back. */
export interface Injection {
  readonly inject: readonly (readonly [name: string, value: string])[];
  /** Further headers of the caller that go, in lower case. */
  readonly strip: readonly string[];
  readonly secrets: readonly string[];
}

/** A request that is allowed, as it is sent. */
export interface Prepared extends Injection {
  /** In place of the caller's. */
  readonly method: 'POST' | undefined;
  readonly path: string;
  /** Only a signature is sent, see `DatasourceCall`. */
  readonly signs: boolean;
  readonly transform: Transform | undefined;
  readonly announce: readonly (readonly [name: string, value: string])[];
  /** How to stop what the call began, should nobody wait for the answer any more. */
  readonly abandonment: Abandonment | undefined;
  /** In place of the proxy's own TLS settings. */
  readonly trust: DatasourceTrust | undefined;
  /** To be called where the other side does not take the credential. */
  readonly onRejected: () => void;
}

/** What most requests have nothing of. */
export const PLAIN: Omit<Prepared, 'path'> = {
  method: undefined,
  inject: [],
  strip: [],
  secrets: [],
  signs: false,
  transform: undefined,
  announce: [],
  abandonment: undefined,
  trust: undefined,
  onRejected() {},
};

/** What was asked with a credential is answered whole and plain: a piece or an encoding of it could carry the secret past the redaction. */
export const WHOLE_ANSWER = {
  strip: ['range', 'if-range', 'sec-websocket-extensions', 'grpc-accept-encoding'],
  inject: [['accept-encoding', 'identity']],
} as const;

/**
 * The injection of a binding, its secret read now; of `mtls` nothing stands in the request: see `trustOf`.
 * @throws {OutriderError} CREDENTIAL_UNAVAILABLE; UNIMPLEMENTED for sigv4 and oauth2
 */
export function injectionOf({ metadata, spec }: CredentialBinding, secrets: Secrets): Injection {
  const { inject, secretRef, stripClient = [], redact = true } = spec;
  const strip = stripClient.map((name) => name.toLowerCase());
  if ('mtls' in inject) return { inject: [], strip, secrets: [] };
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
    strip,
    secrets: redact ? [secret] : [],
  };
}

/**
 * What the connection of a binding is made with, where that is its credential: a client certificate with its key.
 * @throws {OutriderError} CREDENTIAL_UNAVAILABLE
 */
export function trustOf(
  { spec: { inject, secretRef } }: CredentialBinding,
  { secrets, trusts }: { readonly secrets: Secrets; readonly trusts: DatasourceTrusts },
): DatasourceTrust | undefined {
  return 'mtls' in inject ? trusts.of({ clientCertificateRef: secretRef }, secrets) : undefined;
}
