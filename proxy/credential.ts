import type { Transform } from 'node:stream';
import type { Abandonment } from './abandon.ts';
import type { DatasourceTrust } from './trust.ts';

/** What one credential puts into a request, and what must then not come back. */
export interface Injection {
  readonly inject: readonly (readonly [name: string, value: string])[];
  /** Further headers of the caller that go, in lower case. */
  readonly strip: readonly string[];
  readonly secrets: readonly string[];
}

/** What is left of a request once it has been inspected. */
export interface PreparedFrom {
  readonly query: string | null;
  readonly body: Buffer | undefined;
  readonly rawHeaders: readonly string[];
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
