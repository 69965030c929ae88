import { createHash } from 'node:crypto';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import type { DatasourceSpec } from '#policies';
import { refused } from './refusal.ts';
import type { Secrets } from './secrets.ts';

/** What TLS to one datasource, or to the hosts of one client certificate, is made with in place of the proxy's own. */
export interface DatasourceTrust {
  /** Names it: connections are shared only among calls with the same. */
  readonly id: string;
  readonly context: SecureContext;
}

const KEPT_MAX = 64;

/** Makes the TLS contexts of datasources that have a `tls` of their own; one that has been made is kept for as long as its parts are the same. */
export class DatasourceTrusts {
  readonly #extraPem: string | undefined;
  readonly #kept = new Map<string, DatasourceTrust>();

  /** `extraPem`: further authorities of the proxy's own, for a datasource without any. */
  constructor(extraPem: string | undefined) {
    this.#extraPem = extraPem;
  }

  /**
   * @throws {OutriderError} CREDENTIAL_UNAVAILABLE where the client certificate cannot be read, or is none
   */
  of(tls: DatasourceSpec['tls'], secrets: Secrets): DatasourceTrust | undefined {
    if (!tls) return undefined;
    const { ca, clientCertificateRef } = tls;
    const pem = clientCertificateRef === undefined ? '' : secrets.readPem(clientCertificateRef);
    const id = createHash('sha256')
      .update(JSON.stringify([ca, pem]))
      .digest('base64');
    const known = this.#kept.get(id);
    if (known) return known;
    const made = { id, context: this.#make(ca, pem) };
    // Of a secret that has been rotated away nothing stays for ever.
    if (this.#kept.size >= KEPT_MAX) this.#kept.clear();
    this.#kept.set(id, made);
    return made;
  }

  #make(ca: string | undefined, pem: string): SecureContext {
    const extra = this.#extraPem === undefined ? [] : [this.#extraPem];
    try {
      return createSecureContext({
        ca: ca === undefined ? [...getCACertificates('default'), ...extra] : [ca],
        ...(pem === '' ? {} : { cert: pem, key: pem }),
      });
    } catch (because) {
      throw refused(
        'CREDENTIAL_UNAVAILABLE',
        'the TLS settings of this call cannot be used',
        'credential_unavailable',
        { because },
      );
    }
  }
}
