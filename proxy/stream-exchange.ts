import type { ServerHttp2Stream } from 'node:http2';
import { OutriderError } from '#core/errors';
import type { Http2Head } from '#core/http2-head';
import { type Relay, relayStreams, StreamReset } from '#core/http2-relay';
import { type RequestProtocol, requestProtocol } from '#policies';
import { type Addressed, type Admitted, addressed, admitted, identified } from './admission.ts';
import { refusedTarget } from './answer.ts';
import { FieldCover, PromptCover } from './covering.ts';
import type { ExchangeRecord } from './exchange-record.ts';
import { type Exchanged, isEncoded, withExchanged } from './forward.ts';
import { downstreamText, valuesOf } from './headers.ts';
import type { Parts } from './parts.ts';
import { answerTooLarge, requestTooLarge } from './places.ts';
import type { Redactor } from './redaction.ts';
import { malformed, refused } from './refusal.ts';
import { requestTarget } from './request-target.ts';

/** One request over HTTP/2, with its head in the form of HTTP/1.1. */
export interface StreamRequest {
  readonly stream: ServerHttp2Stream;
  readonly head: Http2Head;
}

/**
 * One request that is HTTP/2 all the way, gRPC above all: both directions at once, trailers unchanged, a reset of either end handed on.
 * The same steps as any other request, in the same order.
 * @throws {OutriderError} with the `StreamReset` of the other side as its cause where that is what ended it
 */
export async function exchangeStream(
  parts: Parts,
  { stream, head }: StreamRequest,
  record: ExchangeRecord,
): Promise<Partial<Exchanged>> {
  const { rawHeaders, method, scheme, path } = head;
  const { session } = stream;
  if (!session) throw new OutriderError('CANCELLED', 'the caller gave up');
  const [host = ''] = valuesOf(rawHeaders, 'host');
  const url = `${scheme}://${host}${path}`;
  const { socket } = session;
  const caller = await identified(parts, { rawHeaders, socket, method, url }, record);
  const target = requestTarget({ method, url, rawHeaders }, protocolOfStream(head));
  // A datasource is spoken to in HTTP/1.1: its adapter reads what is asked.
  if (target.kind === 'datasource') throw refusedTarget('protocol_not_allowed');
  return admitted(parts, caller, target, head, record, async (allowed) => {
    // What is signed is signed as a whole, before it is sent.
    if (allowed.upstream.signs) throw refusedTarget('protocol_not_allowed');
    const there = await addressed(parts, allowed, {
      query: target.query,
      body: undefined,
      rawHeaders,
    });
    record.sentOn();
    const came = await carry(parts, stream, allowed, there, (exchanged) => {
      if (exchanged.status === 401) there.onRejected();
      parts.audit.record(record.completed(exchanged), record.labels);
    });
    return came;
  });
}

/** What a request over HTTP/2 is spoken in. */
export function protocolOfStream({ rawHeaders }: Http2Head): RequestProtocol {
  const [contentType] = valuesOf(rawHeaders, 'content-type');
  return requestProtocol({ http2: true, websocket: false, contentType });
}

async function carry(
  parts: Parts,
  stream: ServerHttp2Stream,
  { upstream, target, open, place }: Admitted,
  { route, path, headers, redactor }: Addressed,
  onAnswered: (exchanged: Exchanged) => void,
): Promise<Exchanged> {
  const { limits, rule } = upstream.decision;
  const { requestBytes = Infinity, responseBytes = Infinity } = limits;
  const began = performance.now();
  const exchanged: Exchanged = { status: 0, bytesIn: 0, bytesOut: 0, upstreamMs: 0, redactions: 0 };
  const redaction = redactor?.stream();
  const prompt = redaction && new PromptCover(redaction, (held) => relay.say(held));
  const fields = new FieldCover(redactor);
  const { coverAll: cover } = fields;
  const countRedactions = (): void => {
    exchanged.redactions = fields.found + (redaction?.found ?? 0);
  };
  const { anonymous } = upstream;
  const spend = (bytes: number): void => {
    const why = place.spend(bytes);
    if (why) throw why;
  };
  const answerer = await parts.sessions.request(
    route,
    http2Headers(target.method, route.scheme, path, headers),
    stream.endAfterHeaders,
    () => {
      // Either may have happened while the name was resolved and the host dialled.
      if (open.cutBy) throw open.cutBy;
      if (stream.closed || stream.destroyed)
        throw new OutriderError('CANCELLED', 'the caller gave up');
    },
  );
  const relay: Relay = relayStreams(stream, answerer, {
    asked(chunk) {
      exchanged.bytesIn += chunk.length;
      if (exchanged.bytesIn > requestBytes) throw requestTooLarge(rule);
      spend(chunk.length);
    },
    head(status, raw) {
      exchanged.status = status;
      exchanged.upstreamMs = performance.now() - began;
      assertReadable(raw, redactor);
      return downstreamText(raw, { status, anonymous, cover });
    },
    answered(chunk) {
      exchanged.bytesOut += chunk.length;
      if (exchanged.bytesOut > responseBytes) throw answerTooLarge(rule);
      spend(chunk.length);
      return prompt ? prompt.push(chunk) : chunk;
    },
    trailers: (raw) => downstreamText(raw, { anonymous, cover }),
    complete() {
      const rest = prompt?.end();
      countRedactions();
      onAnswered(exchanged);
      return rest ?? Buffer.alloc(0);
    },
  });
  open.onCut((why) => relay.cut(why));
  answerer.setTimeout(parts.tunnelIdleMs, () =>
    relay.cut(
      refused('UPSTREAM_TIMEOUT', 'the other side did not answer in time', 'upstream_timeout'),
    ),
  );
  try {
    await relay.done;
    return exchanged;
  } catch (error) {
    prompt?.end();
    countRedactions();
    throw withExchanged(failureOf(error), exchanged);
  }
}

/** Pseudo fields first, as RFC 9113, 8.3 wants them. `te: trailers` is said by this hop for itself: gRPC servers want it. */
function http2Headers(
  method: string,
  scheme: string,
  path: string,
  [, authority = '', ...fields]: readonly string[],
): string[] {
  const lower = fields.map((text, at) => (at % 2 === 0 ? text.toLowerCase() : text));
  const pseudo = [':method', method, ':scheme', scheme, ':authority', authority, ':path', path];
  return [...pseudo, ...lower, 'te', 'trailers'];
}

/** @throws {OutriderError} UPSTREAM_LOST: what is compressed cannot be searched for the credential */
function assertReadable(raw: readonly string[], redactor: Redactor | undefined): void {
  if (!redactor) return;
  const [encoding = 'identity'] = valuesOf(raw, 'grpc-encoding');
  if (isEncoded(raw) || encoding !== 'identity')
    throw refused(
      'UPSTREAM_LOST',
      'the other side answered in an encoding that was not asked for',
      'decompression_limit',
    );
}

function failureOf(error: unknown): OutriderError {
  if (error instanceof OutriderError) return error;
  if (!(error instanceof StreamReset)) return malformed(String(error));
  return error.side === 'asker'
    ? new OutriderError('CANCELLED', 'the caller gave up', { cause: error })
    : refused('UPSTREAM_LOST', 'the other side ended the request', 'upstream_lost', {
        because: error,
      });
}
