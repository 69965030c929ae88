import type { ServerHttp2Stream } from 'node:http2';
import { relayStreams, StreamReset } from '#core/http2-relay';
import { resetStream } from '#core/http2-reset';
import { originForm } from '#policies';
import { type Outcome, outcomeOfAnswer } from './exchange.ts';
import { authority, type ForwardCall, linkFailure, wireHeaders } from './forward.ts';
import { headerOf } from './framing.ts';
import { returnedHeaders } from './header-fields.ts';
import { withRateLimit } from './rate-limit-fields.ts';
import { answerRefusal, Refused } from './refusal.ts';
import { tooLarge } from './request-body.ts';

/**
 * Sends a request that is HTTP/2 all the way, gRPC above all, on to the proxy: both directions at once, trailers as they are, and a reset
 * of either end handed on with its code. The exchange ends itself.
 * @throws {Refused} what is found before anything has left
 */
export function forwardStream(
  call: ForwardCall,
  stream: ServerHttp2Stream,
  idleTimeoutMs: number,
): void {
  const { exchange, binding, grant, nowMs, requestLimit } = call;
  const token = binding.token(nowMs);
  const { responseBytes = Number.POSITIVE_INFINITY } = grant.limits;
  let outcome: Outcome = { verdict: 'allow' };
  exchange.forwarded = true;
  const answerer = binding.session.request(streamHeaders(call, token), stream.endAfterHeaders);
  const relay = relayStreams(stream, answerer, {
    asked(chunk) {
      exchange.bytesOut += chunk.length;
      if (exchange.bytesOut > requestLimit.bytes) throw tooLarge(requestLimit);
    },
    head(status, raw) {
      outcome = outcomeOfAnswer(status, (name) => headerOf(raw, name));
      return withRateLimit(returnedHeaders(raw), exchange.quota);
    },
    answered(chunk) {
      exchange.bytesIn += chunk.length;
      if (exchange.bytesIn > responseBytes)
        throw new Refused('body_too_large', { status: 502, rule: grant.rule });
      return chunk;
    },
    trailers: (raw) => returnedHeaders(raw),
    complete() {
      exchange.end(outcome);
      return NOTHING;
    },
  });
  exchange.onCut((refused) => {
    answerRefusal(call, refused, exchange.requestId, false);
    relay.cut(refused);
  });
  answerer.setTimeout(idleTimeoutMs, () => exchange.cut(new Refused('idle_timeout')));
  relay.done.catch((error: unknown) => failed(call, stream, error));
}

const NOTHING = Buffer.alloc(0);

function failed(call: ForwardCall, stream: ServerHttp2Stream, error: unknown): void {
  const { exchange } = call;
  if (exchange.ended) return;
  const refused = refusalOf(error, exchange.targetText);
  exchange.refuse(refused);
  if (error instanceof StreamReset && error.code !== 0) resetStream(stream, error.code);
  else answerRefusal(call, refused, exchange.requestId, false);
}

function refusalOf(error: unknown, target: string | undefined): Refused {
  if (error instanceof Refused) return error;
  if (!(error instanceof StreamReset))
    return new Refused('upstream_malformed', { cause: error, target });
  if (error.side === 'asker') return new Refused('client_gone');
  return linkFailure(error.cause instanceof Error ? error.cause : error, target);
}

/** Pseudo fields first (RFC 9113, 8.3). `te: trailers` is said by this hop for itself: gRPC servers want it. */
function streamHeaders(call: ForwardCall, token: string): string[] {
  const { target, request } = call;
  const { origin, host } = authority(target);
  const [scheme = ''] = origin.split(':', 1);
  const fields = ['te', 'trailers'];
  const length = headerOf(request.rawHeaders, 'content-length');
  if (length !== undefined) fields.push('content-length', length);
  const wire = wireHeaders(call, token, false);
  for (let at = 0; at + 1 < wire.length; at += 2) {
    const name = (wire[at] ?? '').toLowerCase();
    if (name !== 'host') fields.push(name, wire[at + 1] ?? '');
  }
  const pseudo = [':method', target.method, ':scheme', scheme, ':authority', host];
  return [...pseudo, ':path', originForm(target), ...fields];
}
