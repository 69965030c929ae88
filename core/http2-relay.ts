import type { ClientHttp2Stream, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { constants } from 'node:http2';
import { resetStream } from './http2-reset.ts';

/** What a relay asks on the way of one stream. Whatever one of them throws ends the stream, and is why. */
export interface RelaySteps {
  /** Told of every piece of the request's body. */
  readonly asked: (chunk: Buffer) => void;
  /** The head of the answer, without pseudo fields; gives the one that goes on. */
  readonly head: (status: number, rawHeaders: readonly string[]) => string[];
  /** A piece of the answer's body; gives what goes on, now or with a later piece. */
  readonly answered: (chunk: Buffer) => Buffer;
  readonly trailers: (rawTrailers: readonly string[]) => string[];
  /** The answer is complete, and its last frame has not left; gives what still goes before the trailers. */
  readonly complete: () => Buffer;
}

/** One end reset its stream or went away before the answer was complete. */
export class StreamReset extends Error {
  override readonly name = 'StreamReset';
  readonly side: 'asker' | 'answerer';
  /** RFC 9113, 7; 0 where its connection broke. */
  readonly code: number;

  constructor(side: StreamReset['side'], code: number, cause?: unknown) {
    super(`the ${side} reset the stream`, { cause });
    this.side = side;
    this.code = code;
  }
}

export interface Relay {
  /** Resolves when the whole answer has been handed over. @throws {StreamReset}, or what a step threw, or what it was cut by */
  readonly done: Promise<void>;
  /** Ends it: the answering side is told at once, the asking side is left to the caller. */
  readonly cut: (why: Error) => void;
  /** Adds to the answer's body, behind what went on so far. */
  readonly say: (more: Buffer) => void;
}

/** A server that sends more informational answers than this is not waited for. */
const INFORMATIONAL_MAX = 16;
const DISCARD_MAX_BYTES = 1_048_576;

/**
 * Carries one request over HTTP/2 from one connection to another, both ways at once, each direction at the pace of its reader: head and
 * trailers as `steps` give them, END_STREAM where the other side had it. The request's head has been sent already. Nothing is buffered
 * beyond the streams' windows. When either end resets, the other hears of it; the answering side as CANCEL.
 */
export function relayStreams(
  asker: ServerHttp2Stream,
  answerer: ClientHttp2Stream,
  steps: RelaySteps,
): Relay {
  let resolve = (): void => {};
  let reject = (_why: Error): void => {};
  const promise = new Promise<void>((yes, no) => {
    [resolve, reject] = [yes, no];
  });
  let rawTrailers: readonly string[] = [];
  let informational = 0;
  let over = false;

  const fail = (why: Error): void => {
    if (over) return;
    over = true;
    resetStream(answerer, constants.NGHTTP2_CANCEL);
    asker.resume();
    reject(why);
  };
  const guarded = (step: () => void): void => {
    if (over) return;
    try {
      step();
    } catch (error) {
      fail(error instanceof Error ? error : new Error('a step of the relay', { cause: error }));
    }
  };
  const succeed = (): void => {
    over = true;
    // The answer is complete, and the rest of the question moot (RFC 9113, 8.1).
    if (!answerer.writableEnded) resetStream(answerer, constants.NGHTTP2_CANCEL);
    discardRest(asker);
    resolve();
  };

  asker.on('error', () => {}); // it is heard of by `close`
  asker.once('close', () => fail(new StreamReset('asker', asker.rstCode ?? 0)));
  asker.on('data', (chunk: Buffer) =>
    guarded(() => {
      steps.asked(chunk);
      if (!answerer.write(chunk)) asker.pause();
    }),
  );
  asker.once('end', () => {
    // After a reset there is an end, too; it is not that of the body.
    if (asker.closed) fail(new StreamReset('asker', asker.rstCode ?? 0));
    else if (!over) answerer.end();
  });
  asker.on('drain', () => answerer.resume());

  answerer.on('drain', () => asker.resume());
  answerer.on('error', (error) => fail(new StreamReset('answerer', answerer.rstCode ?? 0, error)));
  answerer.once('close', () => fail(new StreamReset('answerer', answerer.rstCode ?? 0)));
  answerer.on('headers', () =>
    guarded(() => {
      informational += 1;
      if (informational > INFORMATIONAL_MAX) throw new Error('too many informational answers');
    }),
  );
  answerer.once('response', (fields, flags, raw) =>
    guarded(() => {
      const status = Number(fields[':status']);
      const head = [':status', String(status), ...steps.head(status, withoutPseudo(raw))];
      const alone = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
      if (alone) steps.complete();
      respond(asker, head, alone);
      if (alone) succeed();
    }),
  );
  answerer.on('data', (chunk: Buffer) =>
    guarded(() => {
      const out = steps.answered(chunk);
      if (out.length > 0 && !asker.write(out)) answerer.pause();
    }),
  );
  answerer.on('trailers', (_fields, _flags, raw) => (rawTrailers = raw));
  answerer.once('end', () =>
    guarded(() => {
      if (!asker.headersSent || (answerer.rstCode ?? 0) !== constants.NGHTTP2_NO_ERROR)
        throw new StreamReset('answerer', answerer.rstCode ?? 0);
      const trailers = fieldsOf(steps.trailers(withoutPseudo(rawTrailers)));
      const rest = steps.complete();
      asker.once('wantTrailers', () => sendTrailers(asker, trailers));
      if (rest.length > 0) asker.end(rest);
      else asker.end();
      succeed();
    }),
  );
  // It may have gone while the other side was dialled.
  if (asker.closed || asker.destroyed) fail(new StreamReset('asker', asker.rstCode ?? 0));
  const say = (more: Buffer): void => {
    if (!over && !asker.write(more)) answerer.pause();
  };
  return { done: promise, cut: fail, say };
}

/**
 * Reads on and forgets what an asker still says that has been answered, up to a bound, and then resets it. At once, a reset would overtake
 * the frame that ends the answer.
 */
export function discardRest(asker: ServerHttp2Stream): void {
  let left = DISCARD_MAX_BYTES;
  asker.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) asker.close(constants.NGHTTP2_NO_ERROR);
  });
  asker.resume();
}

/** The same head with nothing behind it, or with trailers to come. */
function respond(asker: ServerHttp2Stream, head: string[], endStream: boolean): void {
  asker.respond(head, { endStream, waitForTrailers: !endStream });
}

/**
 * Ends a stream with trailers of the other side, whatever they are: Node throws at those that HTTP/2 forbids (RFC 9113, 8.2.2), and at
 * some that come twice, in a callback of its own where nobody would catch it. The stream is then reset.
 */
export function sendTrailers(stream: ServerHttp2Stream, trailers: OutgoingHttpHeaders): void {
  try {
    stream.sendTrailers(trailers);
  } catch {
    resetStream(stream, constants.NGHTTP2_PROTOCOL_ERROR);
  }
}

/** As Node wants them: a name that comes more than once has a list. */
function fieldsOf(raw: readonly string[]): OutgoingHttpHeaders {
  const fields: Record<string, string | string[]> = {};
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const [name = '', value = ''] = [raw[at], raw[at + 1]];
    const before = fields[name];
    fields[name] = before === undefined ? value : [before, value].flat();
  }
  return fields;
}

function withoutPseudo(raw: readonly string[]): string[] {
  const fields: string[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2)
    if (!raw[at]?.startsWith(':')) fields.push(raw[at] ?? '', raw[at + 1] ?? '');
  return fields;
}
