import { isUtf8 } from 'node:buffer';
import { OutriderError } from '#core/errors';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import {
  type AllowDecision,
  type DatasourceTarget,
  type HostTarget,
  inspectAllowed,
  REASONS,
  type RolePolicy,
} from '#policies';
import { hasBody } from './forward.ts';
import { valuesOf } from './headers.ts';
import type { OpenExchange } from './open-exchanges.ts';
import { refused } from './refusal.ts';
import type { Upstream } from './upstream.ts';

/** A query, be it of a datasource or in a form, is not longer; nor is what is signed as a whole. */
const BODY_MAX_BYTES = 1_048_576;

/** More than the audit keeps of it. */
const STATEMENT_MAX_BYTES = 2_048;

/** What goes on after the words of a query have been looked at. */
export interface Inspected {
  readonly query: string | null;
  /** Where it had to be read. */
  readonly body: Buffer | undefined;
}

/**
 * Holds what is asked of a datasource against the rule that allows asking. Where the body says what is asked, all of it is read, and
 * only then the answer is a promise; nothing has been resolved or dialled by then.
 * @throws {OutriderError} EGRESS_DENIED, BODY_TOO_LARGE, CANCELLED, or whatever the exchange was cut by
 */
export function inspect(
  request: HttpRequest,
  response: HttpResponse,
  {
    policy,
    target,
    upstream,
    open,
    expectsContinue,
    onStatement,
  }: {
    readonly policy: RolePolicy;
    readonly target: HostTarget | DatasourceTarget;
    readonly upstream: Upstream;
    readonly open: OpenExchange;
    readonly expectsContinue: boolean;
    /** Told what a body asks for, or a header copies, before it is held against the rule. */
    readonly onStatement: (text: string) => void;
  },
): Inspected | Promise<Inspected> {
  if (target.kind === 'datasource')
    for (const source of valuesOf(request.rawHeaders, 'x-amz-copy-source'))
      onStatement(`x-amz-copy-source=${source}`);
  upstream.assertHead(request.rawHeaders);
  if (target.kind === 'host') {
    const { query } = target;
    if (upstream.body !== 'asks' || !hasBody(request)) return { query, body: undefined };
    return readBody(request, response, open, expectsContinue).then((body) => ({ query, body }));
  }
  const held = (body: Buffer | undefined): Inspected =>
    heldAgainst(policy, upstream.decision, target, request.rawHeaders, body);
  const { rule } = upstream.decision;
  if (upstream.body === 'none' && hasBody(request))
    throw refused('EGRESS_DENIED', REASONS.query_not_understood.text, 'query_not_understood', {
      rule,
    });
  if (upstream.body !== 'asks') return held(undefined);
  // What it says is not to be unpacked here, and nobody can say what another reader would make of it.
  if (valuesOf(request.rawHeaders, 'content-encoding').length > 0)
    throw refused('EGRESS_DENIED', REASONS.encoded_body_forbidden.text, 'encoded_body_forbidden', {
      rule,
    });
  return readBody(request, response, open, expectsContinue).then((body) => {
    // Two readers may take broken UTF-8 for different texts.
    if (!isUtf8(body))
      throw refused('EGRESS_DENIED', REASONS.query_malformed.text, 'query_malformed', { rule });
    onStatement(body.toString('utf8', 0, STATEMENT_MAX_BYTES));
    return held(body);
  });
}

function heldAgainst(
  policy: RolePolicy,
  decision: AllowDecision,
  target: DatasourceTarget,
  rawHeaders: readonly string[],
  body: Buffer | undefined,
): Inspected {
  const content = {
    body: body?.toString('utf8') ?? null,
    header: (name: string) => valuesOf(rawHeaders, name)[0],
  };
  const inspection = inspectAllowed(policy, decision, target, content, Date.now());
  if (inspection.ok) return { query: inspection.query, body };
  const { reason } = inspection;
  throw refused('EGRESS_DENIED', REASONS[reason].text, reason, { rule: decision.rule });
}

/** No rule says so: nobody reads more of it. */
function tooLongToRead(): OutriderError {
  const text = `a body whose query is looked at has at most ${BODY_MAX_BYTES} bytes`;
  return refused('BODY_TOO_LARGE', text, 'body_too_large');
}

function readBody(
  request: HttpRequest,
  response: HttpResponse,
  open: OpenExchange,
  expectsContinue: boolean,
): Promise<Buffer> {
  const { whole } = request;
  if (whole)
    return whole.length > BODY_MAX_BYTES ? Promise.reject(tooLongToRead()) : Promise.resolve(whole);
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const gone = (): void => reject(new OutriderError('CANCELLED', 'the caller gave up'));
    open.onCut(reject);
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > BODY_MAX_BYTES) reject(tooLongToRead());
      else chunks.push(chunk);
    });
    request.once('end', () => resolve(Buffer.concat(chunks))).once('error', gone);
    request.once('close', () => {
      if (!request.complete) gone();
    });
    if (request.socket.destroyed) gone();
    else if (expectsContinue) response.writeContinue();
  });
}
