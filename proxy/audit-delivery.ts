import type { AuditHead } from '#core/audit';
import { OutriderError } from '#core/errors';
import type { HttpRequest } from '#core/http-exchange';
import type { ProxyAudit } from './audit.ts';
import type { AuditStore } from './audit-sink.ts';
import { delivererOf } from './deliverer.ts';
import type { Identifier } from './identify.ts';

const BODY_MAX_BYTES = 8 * 1_048_576;
const TYPE = 'application/x-ndjson';

/**
 * Stores a delivery of a sidecar and writes a receipt into the proxy's own chain, so that a tail that is cut from either
 * file is missed by the other. Returns the last record that is stored.
 * @throws {OutriderError} UNAUTHENTICATED, METHOD_NOT_ALLOWED, UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE, INVALID_REQUEST, EGRESS_DENIED, AUDIT_GAP, AUDIT_UNAVAILABLE
 */
export async function deliver(
  request: HttpRequest,
  deps: { identifier: Identifier; audit: ProxyAudit; sink: AuditStore },
): Promise<AuditHead> {
  if (request.method !== 'POST')
    throw new OutriderError('METHOD_NOT_ALLOWED', 'audit records are delivered with POST');
  deps.audit.assertWritable();
  const identity = await deps.identifier.identifyDelivery(request);
  const { execution, principal } = identity;
  if (request.headers['content-type'] !== TYPE)
    throw new OutriderError('UNSUPPORTED_MEDIA_TYPE', `the content type must be ${TYPE}`);
  const body = await bodyOf(request);
  const { head, beginsAt } = await deps.sink.take(execution.sandboxId, body, delivererOf(identity));
  deps.audit.record({
    event: 'receipt',
    requestId: execution.requestId,
    issuer: principal.issuer,
    subject: principal.subject,
    tenant: principal.tenant,
    sandboxId: execution.sandboxId,
    execId: execution.execId,
    head,
    ...(beginsAt === undefined
      ? {}
      : { detail: `the chain begins here with record ${beginsAt}; what was before is not stored` }),
  });
  return head;
}

async function bodyOf(request: HttpRequest): Promise<string> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of request) {
    const bytes = Buffer.from(piece);
    size += bytes.length;
    if (size > BODY_MAX_BYTES)
      throw new OutriderError('BODY_TOO_LARGE', `a delivery has at most ${BODY_MAX_BYTES} bytes`);
    pieces.push(bytes);
  }
  return Buffer.concat(pieces).toString('utf8');
}
