import { type ClientDuplexStream, credentials, Metadata } from '@grpc/grpc-js';
import { type Address, formatAddress } from '#core/address';
import type { AuditHead } from '#core/audit';
import { OutriderError } from '#core/errors';
import type { Principal } from '#core/principal';
import type { Revision } from '#policystore';
import { type AttachRequest, type AttachResponse, SidecarServiceClient } from '#proto';

const ANSWER_TIMEOUT_MS = 10_000;

export interface Binding {
  readonly execId: string;
  readonly role: string;
  /** Canonical JSON of the role's projection. */
  readonly policy: string;
  /** Whether the policy looks into TLS: then the program is to find the CA when it starts. */
  readonly intercepts: boolean;
  readonly policyDigest: string;
  /** For the sidecar's audit, where the policy came as a bundle. */
  readonly policyRevision?: Revision | null | undefined;
  readonly token: { readonly jwt: string; readonly expiresAt: Date };
  readonly principal: Principal;
  readonly requestId: string;
}

export interface EgressAccount {
  readonly allowed: number;
  readonly denied: number;
  readonly limited: number;
  readonly failed: number;
  readonly bytesOut: number;
  readonly bytesIn: number;
  /** Where the attachment's audit chain ended. */
  readonly auditHead: AuditHead | undefined;
}

export interface DeniedEvent {
  readonly reason: string;
  readonly rule: string;
  readonly target: string;
}

/** The runner's end of one attachment stream. While it lives the sandbox has a door; the door is open between bind and unbind. */
export class Attachment {
  readonly #call: ClientDuplexStream<AttachRequest, AttachResponse>;
  readonly #waiting: {
    readonly of: string;
    readonly resolve: (response: AttachResponse) => void;
    readonly reject: (error: Error) => void;
  }[] = [];
  readonly closed: Promise<void>;
  /** Called with each refusal while an exec is bound. */
  onDenied: (event: DeniedEvent) => void = () => {};
  /** Called when the sidecar demands that the exec ends. */
  onPolicyEnded: (errorCode: string) => void = () => {};
  #alive = true;
  #certificateThumbprint: string | undefined;

  constructor(client: SidecarServiceClient) {
    this.#call = client.attach(new Metadata({ waitForReady: true })); // it may be starting again just now
    this.closed = new Promise((resolve) => {
      const over = () => {
        this.#alive = false;
        for (const waiting of this.#waiting.splice(0)) waiting.reject(lost());
        resolve();
      };
      this.#call.on('error', over);
      this.#call.on('end', over);
      this.#call.on('close', over);
    });
    this.#call.on('data', (response: AttachResponse) => this.#onResponse(response));
  }

  /** What tokens of this attachment are bound to: the thumbprint of its certificate (RFC 8705); undefined on one host. */
  get certificateThumbprint(): string | undefined {
    return this.#certificateThumbprint;
  }

  /** Makes the door, closed, at `path`, as a socket of the sidecar's own user. */
  async open(attachmentId: string, sandboxId: string, path: string): Promise<void> {
    const { response } = await this.#ask('opened', {
      $case: 'open',
      value: {
        attachmentId,
        sandboxId,
        spoolPath: '',
        listen: {
          $case: 'unix',
          value: { path, controlPath: '' },
        },
      },
    });
    if (response?.$case === 'opened' && response.value.clientCertificateSha256 !== '')
      this.#certificateThumbprint = response.value.clientCertificateSha256;
  }

  /** Opens the door; resolves to the PEM of the CA that TLS is intercepted with, empty where it is not. */
  async bind(binding: Binding): Promise<string> {
    const { execId, role, policy, policyDigest, policyRevision, token, principal, requestId } =
      binding;
    const { issuer, subject, tenant } = principal;
    const { response } = await this.#ask('bound', {
      $case: 'bind',
      value: {
        execId,
        role,
        policy: Buffer.from(policy),
        policyDigest,
        token,
        principal: { issuer, subject, tenant },
        requestId,
        ...revisionFields(policyRevision),
      },
    });
    return response?.$case === 'bound' ? response.value.caCertificate : '';
  }

  renew(execId: string, token: Binding['token']): void {
    this.#send({ $case: 'renew', value: { execId, token } });
  }

  tighten(execId: string, policy: string, policyDigest: string, revision: Revision | null): void {
    this.#send({
      $case: 'tighten',
      value: {
        execId,
        policy: Buffer.from(policy),
        policyDigest,
        ...revisionFields(revision),
      },
    });
  }

  /** Closes the door; resolves when what went through it is counted and its audit delivered or kept. */
  async unbind(execId: string): Promise<EgressAccount> {
    const { response } = await this.#ask('unbound', { $case: 'unbind', value: { execId } });
    if (response?.$case !== 'unbound') throw lost();
    const { allowed, denied, limited, failed, bytesOut, bytesIn, auditHead } = response.value;
    return {
      allowed: Number(allowed),
      denied: Number(denied),
      limited: Number(limited),
      failed: Number(failed),
      bytesOut: Number(bytesOut),
      bytesIn: Number(bytesIn),
      auditHead: auditHead && {
        writer: auditHead.writer,
        seq: Number(auditHead.seq),
        hash: auditHead.hash,
      },
    };
  }

  /** Ends the attachment: the sidecar closes the door, cuts connections and forgets the token. */
  close(): void {
    this.#call.end();
    setTimeout(() => this.#call.cancel(), 3_000).unref();
  }

  #ask(of: string, request: NonNullable<AttachRequest['request']>): Promise<AttachResponse> {
    return new Promise((resolve, reject) => {
      if (!this.#alive) {
        reject(lost());
        return;
      }
      const timer = setTimeout(() => {
        reject(new OutriderError('SIDECAR_LOST', 'the sidecar does not answer'));
        this.#call.cancel();
      }, ANSWER_TIMEOUT_MS);
      const settle =
        <T>(done: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          done(value);
        };
      this.#waiting.push({ of, resolve: settle(resolve), reject: settle(reject) });
      this.#send(request);
    });
  }

  #send(request: NonNullable<AttachRequest['request']>): void {
    if (this.#alive) this.#call.write({ request });
  }

  #onResponse(answer: AttachResponse): void {
    const response = answer.response;
    if (response?.$case === 'denied') this.onDenied(response.value);
    else if (response?.$case === 'policyEnded') this.onPolicyEnded(response.value.errorCode);
    else if (response?.$case === this.#waiting[0]?.of) this.#waiting.shift()?.resolve(answer);
  }
}

/** A client of the sidecar at a unix socket or address. */
export function sidecarClient(address: Address): SidecarServiceClient {
  const target = address.kind === 'unix' ? `unix:${address.path}` : formatAddress(address);
  return new SidecarServiceClient(target, credentials.createInsecure(), {
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 500,
  });
}

function lost(): OutriderError {
  return new OutriderError('SIDECAR_LOST', 'the sidecar of the sandbox ended');
}

/** As messages carry it: empty and 0 where the policy came from a directory. */
export function revisionFields(revision: Revision | null | undefined): {
  policyCommit: string;
  policySerial: bigint;
} {
  return { policyCommit: revision?.commit ?? '', policySerial: BigInt(revision?.serial ?? 0) };
}
