import { setTimeout as sleep } from 'node:timers/promises';
import { OutriderError } from '#core/errors';
import { TIMER_MAX_MS } from '#core/timer-max';
import { streamEvents } from './event-stream.ts';
import { type Answer, discard, isEventStream } from './mcp-endpoint.ts';

/** Far above any message that a gateway passes on. */
export const ANSWER_MAX_CHARACTERS = 64 * 2 ** 20;

const RETRY_MS = 1_000;
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 30_000;
/** The statuses, below 500, of a gateway that will take the same request later: a token that rotates, a stream not yet known to be broken. */
const PASSING: ReadonlySet<number> = new Set([401, 408, 409, 425, 429]);

export interface EventStream {
  /** Connects behind an event, or anew. */
  readonly connect: (lastEventId: string | undefined) => Promise<Answer>;
  /** Takes the data of one event. The next is read when it resolves. */
  readonly take: (data: string) => Promise<void>;
  /** Whether to connect again, after so many connections in a row that failed. */
  readonly goesOn: (at: { readonly lastEventId: string | undefined; failures: number }) => boolean;
  readonly signal: AbortSignal;
}

/**
 * Reads one event stream over as many connections as it takes (MCP 2025-11-25, Streamable HTTP, resumability): one that ends is followed
 * by another behind its last event, after the time that the server asked for. A stream whose server has forgotten that event begins
 * anew. Resolves when the stream does not go on, to the status of the answer that refused it, if one did.
 * @throws {OutriderError} BODY_TOO_LARGE for an event that is too large to be taken
 * @throws an AbortError where `signal` ended it
 */
export async function followStream(
  stream: EventStream,
  first?: Answer,
): Promise<number | undefined> {
  const at = new Position();
  if (first) await at.read(first, stream);
  let delayMs = first ? at.retryMs : 0;
  for (let failures = 0; stream.goesOn({ lastEventId: at.lastEventId, failures }); ) {
    if (delayMs > 0) await sleep(Math.min(delayMs, TIMER_MAX_MS), undefined, stream);
    const answer = await connected(stream, at.lastEventId);
    if (answer?.statusCode === 200 && isEventStream(answer)) {
      failures = 0;
      await at.read(answer, stream);
      delayMs = at.retryMs;
      continue;
    }
    if (answer) await discard(answer);
    if (answer && !mayPass(answer.statusCode)) {
      if (answer.statusCode !== 400 || at.lastEventId === undefined) return answer.statusCode;
      at.lastEventId = undefined;
    }
    failures++;
    delayMs = Math.max(at.retryMs, Math.min(at.retryMs * 2 ** failures, RETRY_MAX_MS));
  }
  return undefined;
}

/** How far a stream has come. */
class Position {
  lastEventId: string | undefined;
  retryMs = RETRY_MS;

  /** Reads a connection to its end, however it ends. */
  async read(answer: Answer, { take }: EventStream): Promise<void> {
    const events = streamEvents(answer.body, ANSWER_MAX_CHARACTERS);
    for (;;) {
      const { value: event, done } = await events.next().catch(ended);
      if (done) return;
      if (event.data !== undefined) await take(event.data);
      if (event.id !== undefined) this.lastEventId = event.id === '' ? undefined : event.id;
      if (event.retryMs !== undefined) this.retryMs = Math.max(event.retryMs, RETRY_MIN_MS);
    }
  }
}

/** A connection that breaks has ended, for what follows; what we refuse to read has not. */
function ended(error: unknown): { readonly value: undefined; readonly done: true } {
  if (error instanceof OutriderError) throw error;
  return { value: undefined, done: true };
}

async function connected(
  { connect, signal }: EventStream,
  lastEventId: string | undefined,
): Promise<Answer | undefined> {
  try {
    return await connect(lastEventId);
  } catch (error) {
    if (signal.aborted) throw error;
    return undefined;
  }
}

function mayPass(status: number): boolean {
  return status >= 500 || PASSING.has(status);
}
