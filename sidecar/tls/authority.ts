import { generateKeyPairSync, type KeyPairKeyObjectResult } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import { authorityCertificate, serverCertificate } from './certificate.ts';

/** Longer than any exec: the certificates of one claim end with it anyhow, since its keys do. */
const LIFE_MS = 24 * 3_600_000;
/** For clocks of sandboxes that are behind; a box has the host's clock, a kernel of its own may lag. */
const SLACK_MS = 300_000;
/** Hosts whose context is kept; of more the one used longest ago is made anew when it is asked for. */
const CONTEXTS_MAX = 128;

/** The two keys of one sandbox: one signs, one serves every host. Made with the warm sandbox, so that no claim waits for them. */
export class SandboxKeys {
  readonly authority = pair();
  readonly server = pair();
  readonly serverPem = this.server.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function pair(): KeyPairKeyObjectResult {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

/**
 * The CA of one claim: it can sign for the hosts that the policy has rules about, at the time of the claim, and for nothing else,
 * whoever has its key. Only this process has it.
 */
export class SandboxAuthority {
  /** PEM: what the sandbox is to trust. */
  readonly certificate: string;
  readonly #keys: SandboxKeys;
  readonly #name: string;
  readonly #from: Date;
  readonly #until: Date;
  readonly #contexts = new Map<string, SecureContext>();

  constructor(sandboxId: string, keys: SandboxKeys, hosts: readonly string[], now: number) {
    this.#keys = keys;
    this.#name = `Outrider ${sandboxId}`;
    this.#from = new Date(now - SLACK_MS);
    this.#until = new Date(now + LIFE_MS);
    this.certificate = authorityCertificate(
      this.#spec(this.#name, keys.authority.publicKey),
      hosts,
    );
  }

  /** What a TLS server of this host needs. The host must be one of the authority's, or no client will believe it. */
  contextFor(host: string): SecureContext {
    const kept = this.#contexts.get(host);
    this.#contexts.delete(host);
    const context =
      kept ??
      createSecureContext({
        key: this.#keys.serverPem,
        cert: serverCertificate(this.#spec('Outrider', this.#keys.server.publicKey), host),
        minVersion: 'TLSv1.2',
      });
    this.#contexts.set(host, context); // to the end: the one used longest ago stands first
    const [oldest] = this.#contexts.keys();
    if (this.#contexts.size > CONTEXTS_MAX && oldest !== undefined) this.#contexts.delete(oldest);
    return context;
  }

  #spec(subject: string, subjectKey: KeyPairKeyObjectResult['publicKey']) {
    return {
      subject,
      subjectKey,
      issuer: this.#name,
      issuerKey: this.#keys.authority,
      notBefore: this.#from,
      notAfter: this.#until,
    };
  }
}
