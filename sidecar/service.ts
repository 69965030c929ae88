import type { handleBidiStreamingCall } from '@grpc/grpc-js';
import { parseAddress } from '#core/address';
import { OutriderError, toOutriderError } from '#core/errors';
import { bidiStream, type CallContext, type Report, unimplemented } from '#core/grpc';
import { releaseCompilers } from '#core/heap';
import { isRecord } from '#core/is-record';
import type {
  AttachRequest,
  AttachResponse,
  AuditHead,
  BindExec,
  ExecutionToken,
  OpenAttachment,
  RelayControlRequest,
  RelayControlResponse,
  SidecarServiceServer,
} from '#proto/sidecar';
import type { Attachment, AttachmentDeps, AttachmentSpec } from './attachment.ts';
import type { ExecGrant, ExecPolicy, ExecToken } from './binding.ts';
import type { CompiledPolicies } from './compiled-policies.ts';
import type { DoorLimits } from './door.ts';
import { Outbox } from './outbox.ts';

type Request = NonNullable<AttachRequest['request']>;
type Response = NonNullable<AttachResponse['response']>;

/** What the service asks of the process that it runs in. */
export interface ServiceHost {
  /** @throws {OutriderError} INVALID_REQUEST for an id in use, DRAINING */
  open(
    spec: AttachmentSpec,
    events: Pick<AttachmentDeps, 'onDenied' | 'onSpool'>,
  ): Promise<Attachment>;
  /** Resolves when the attachment is gone. */
  close(attachmentId: string): Promise<void>;
  /** Calls back when the process stops; the function returned takes that back. */
  onStop(stop: () => void): () => void;
  /** Where a message names no others. */
  readonly limits: DoorLimits;
  readonly spoolRecords: number;
  readonly policies: CompiledPolicies;
  /** The thumbprint of the certificate that the proxy is shown; empty on one host. */
  readonly clientCertificate: string;
}

/** SidecarService: translates between the wire and attachments. Only this file knows the generated messages. */
export function sidecarService(host: ServiceHost, report: Report): SidecarServiceServer {
  const attach: handleBidiStreamingCall<AttachRequest, AttachResponse> = bidiStream(
    'Attach',
    (requests: AsyncIterable<AttachRequest>, context) => serve(requests, context, host),
    report,
  );
  const relayControl: handleBidiStreamingCall<RelayControlRequest, RelayControlResponse> =
    bidiStream('RelayControl', relay, report);
  return { attach, relayControl };
}

/** The place of what a pod needs. */
async function* relay(): AsyncGenerator<RelayControlResponse> {
  yield unimplemented('RelayControl');
}

/** One attachment, from its first message to the end of its stream, whichever side and whatever reason ends that. */
async function* serve(
  requests: AsyncIterable<AttachRequest>,
  { signal }: CallContext,
  host: ServiceHost,
): AsyncGenerator<AttachResponse> {
  const outbox = new Outbox<AttachResponse>();
  const end = (): void => outbox.end();
  const session = new Session(host, (response) => outbox.push({ response }));
  signal.addEventListener('abort', end);
  if (signal.aborted) end();
  const forget = host.onStop(end);
  session.run(requests).then(end, (error: unknown) => outbox.fail(error));
  try {
    yield* outbox;
  } finally {
    forget();
    signal.removeEventListener('abort', end);
    await session.close();
  }
}

/** The messages of one stream, in order. `renew` and `tighten` for an exec that is not bound are passed over without an answer. */
class Session {
  readonly #host: ServiceHost;
  readonly #send: (response: Response) => void;
  #id: string | undefined;
  #attachment: Attachment | undefined;
  #closed = false;

  constructor(host: ServiceHost, send: (response: Response) => void) {
    this.#host = host;
    this.#send = send;
  }

  async run(requests: AsyncIterable<AttachRequest>): Promise<void> {
    for await (const { request } of requests) {
      if (this.#closed) return;
      if (request === undefined)
        throw new OutriderError('INVALID_REQUEST', 'a message of an unknown kind');
      await this.#handle(request);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#id !== undefined) await this.#host.close(this.#id);
  }

  async #handle(request: Request): Promise<void> {
    if (request.$case === 'open') return this.#open(request.value);
    const attachment = this.#attachment;
    if (!attachment) throw new OutriderError('INVALID_REQUEST', 'the first message must be `open`');
    switch (request.$case) {
      case 'bind': {
        releaseCompilers(); // from here on there is work
        const { execId } = request.value;
        const caCertificate = attachment.bind(execGrant(request.value, this.#host.policies)) ?? '';
        return this.#send({ $case: 'bound', value: { execId, caCertificate } });
      }
      // The exec may end while such a message is on its way: that is no fault, and what is bound meanwhile is not meant.
      case 'renew':
        if (!attachment.isBound(request.value.execId)) return;
        attachment.renew(request.value.execId, token(request.value.token));
        return this.#send({ $case: 'renewed', value: { execId: request.value.execId } });
      case 'tighten': {
        const { execId, policyDigest } = request.value;
        if (!attachment.isBound(execId)) return;
        const connectionsClosed = attachment.tighten(
          execId,
          execPolicy(request.value, this.#host.policies),
        );
        return this.#send({ $case: 'tightened', value: { policyDigest, connectionsClosed } });
      }
      case 'unbind':
        return this.#unbind(attachment, request.value.execId);
      case 'drain':
        for (const line of attachment.undelivered())
          this.#send({ $case: 'auditRecord', value: { line: Buffer.from(line, 'utf8') } });
        return this.#send({ $case: 'drained', value: { auditHead: wireHead(attachment) } });
    }
  }

  async #open(message: OpenAttachment): Promise<void> {
    if (this.#id !== undefined)
      throw new OutriderError('INVALID_REQUEST', 'this stream has opened its attachment already');
    const spec = attachmentSpec(message, this.#host);
    const opened = await this.#host.open(spec, {
      onDenied: (value) => this.#send({ $case: 'denied', value }),
      onSpool: (refusing, pending) =>
        this.#send({ $case: 'spool', value: { refusing, pendingRecords: BigInt(pending) } }),
    });
    this.#id = spec.attachmentId;
    this.#attachment = opened;
    // The stream may have ended while the door was being made.
    if (this.#closed) return this.close();
    this.#send({
      $case: 'opened',
      value: { clientCertificateSha256: this.#host.clientCertificate },
    });
  }

  async #unbind(attachment: Attachment, execId: string): Promise<void> {
    const { totals, undelivered } = await attachment.unbind(execId);
    this.#send({
      $case: 'unbound',
      value: {
        execId,
        allowed: BigInt(totals.allowed),
        denied: BigInt(totals.denied),
        limited: BigInt(totals.limited),
        bytesOut: BigInt(totals.bytesOut),
        bytesIn: BigInt(totals.bytesIn),
        undeliveredRecords: BigInt(undelivered),
        auditHead: wireHead(attachment),
        failed: BigInt(totals.failed),
      },
    });
  }
}

function attachmentSpec(
  message: OpenAttachment,
  { limits: defaults, spoolRecords }: ServiceHost,
): AttachmentSpec {
  const { attachmentId, sandboxId, listen, limits } = message;
  // It names the writer of audit records.
  if (!/^[A-Za-z0-9-]{1,64}$/.test(sandboxId))
    throw new OutriderError('INVALID_REQUEST', 'sandbox_id must be 1 to 64 of [A-Za-z0-9-]');
  if (!/^[A-Za-z0-9-]{1,64}$/.test(attachmentId))
    throw new OutriderError('INVALID_REQUEST', 'attachment_id must be 1 to 64 of [A-Za-z0-9-]');
  if (listen === undefined)
    throw new OutriderError('INVALID_REQUEST', 'open needs an address to listen on');
  const unix = listen.$case === 'unix' ? listen.value : undefined;
  return {
    attachmentId,
    sandboxId,
    listen: address(listen.$case === 'unix' ? `unix:${listen.value.path}` : listen.value.address),
    owner:
      unix?.ownerUid === undefined
        ? undefined
        : { uid: unix.ownerUid, gid: unix.ownerGid ?? unix.ownerUid },
    spoolPath: message.spoolPath || undefined,
    spoolRecords: Number(limits?.spoolRecords ?? 0n) || spoolRecords,
    limits: {
      ...defaults,
      tunnels: limits?.tunnels || defaults.tunnels,
      requestBytes: Number(limits?.requestBytes ?? 0n) || defaults.requestBytes,
      connections: limits?.connections || defaults.connections,
      headerBytes: Number(limits?.headerBytes ?? 0n) || defaults.headerBytes,
      headerCount: limits?.headerCount || defaults.headerCount,
      headerTimeoutMs: durationMs(limits?.headerTimeout) || defaults.headerTimeoutMs,
      idleTimeoutMs: durationMs(limits?.idleTimeout) || defaults.idleTimeoutMs,
    },
  };
}

function execGrant(message: BindExec, policies: CompiledPolicies): ExecGrant {
  if (message.execId === '') throw new OutriderError('INVALID_REQUEST', 'bind needs an exec_id');
  return {
    execId: message.execId,
    role: message.role,
    requestId: message.requestId || undefined,
    policy: execPolicy(message, policies),
    token: token(message.token),
    principal: message.principal ?? { issuer: '', subject: '', tenant: '' },
  };
}

function token(message: ExecutionToken | undefined): ExecToken {
  // It is written into a header line: nothing but the characters of a compact JWT gets there.
  if (!message || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(message.jwt) || !message.expiresAt)
    throw new OutriderError('INVALID_REQUEST', 'an execution token with its expiry is needed');
  const { jwt, expiresAt } = message;
  return { jwt, id: tokenId(jwt), expiresAt: expiresAt.getTime() };
}

/** Only a label of records: the proxy verifies the token. */
function tokenId(jwt: string): string | undefined {
  try {
    const payload: unknown = JSON.parse(
      Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString('utf8'),
    );
    return isRecord(payload) && typeof payload['jti'] === 'string' ? payload['jti'] : undefined;
  } catch {
    return undefined;
  }
}

/** @throws {OutriderError} POLICY_INVALID */
function execPolicy(
  message: Pick<BindExec, 'policy' | 'policyDigest' | 'policyCommit' | 'policySerial'>,
  policies: CompiledPolicies,
): ExecPolicy {
  return {
    compiled: policies.compile(message.policy),
    digest: message.policyDigest,
    commit: message.policyCommit || undefined,
    serial: message.policySerial === 0n ? undefined : Number(message.policySerial),
  };
}

function wireHead({ auditHead }: Attachment): AuditHead | undefined {
  return auditHead && { ...auditHead, seq: BigInt(auditHead.seq) };
}

function address(text: string) {
  try {
    return parseAddress(text);
  } catch (error) {
    throw new OutriderError('INVALID_REQUEST', toOutriderError(error).message, { cause: error });
  }
}

function durationMs(value: { seconds: bigint | number; nanos: number } | undefined): number {
  return value === undefined ? 0 : Number(value.seconds) * 1000 + Math.round(value.nanos / 1e6);
}
