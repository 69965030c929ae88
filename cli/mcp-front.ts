import { type ErrorCode, OutriderError } from '#core/errors';
import { exactly, inOneLine, rawJson } from '#core/json-text';
import { boundedText } from './event-stream.ts';
import {
  answeredIdOf,
  errorAnswer,
  type Id,
  INVALID_REQUEST,
  idOf,
  isMessage,
  type Message,
  methodOf,
  PARSE_ERROR,
  paramsOf,
  parse,
  requestIdOf,
  SERVER_ERROR,
  type Written,
  withId,
  written,
} from './json-rpc.ts';
import { type Answer, discard, isEventStream, type McpEndpoint } from './mcp-endpoint.ts';
import { standardHeaders, versionInMessage } from './mcp-headers.ts';
import { McpSession } from './mcp-session.ts';
import { ANSWER_MAX_CHARACTERS, followStream } from './mcp-stream.ts';

export interface FrontDeps {
  readonly endpoint: McpEndpoint;
  /** Takes the text of one message for the client, in one line; resolves when the next one may come. */
  readonly send: (text: string) => Promise<void>;
  /** Takes one line for a person. */
  readonly report: (line: string) => void;
}

/** A request on its way. It has one answer, by whatever stream that comes. */
interface Flight {
  readonly abort: AbortController;
  /** Takes the text of the answer. */
  readonly pass: (text: string) => Promise<void>;
  answer: Message | undefined;
}

/** Connections in a row that fail before the answer of a request that was sent is given up: half a minute, where the server asks for no other time. */
const RESUMES_MAX = 5;
/** A client that ended us with a signal kills after 2 s (MCP, stdio, shutdown, as the SDK does it). */
const DELETE_TIMEOUT_MS = 1_500;

/**
 * One stdio client's front to a gateway: each message goes out as one POST, each message that comes back goes to the client,
 * and both as they are written: what is parsed and written again has other numbers.
 * Requests run at the same time; every request gets exactly one answer, an error where the gateway gave none. In the session era
 * it listens to the session's own stream, takes up streams that end early, and begins a session again that the server has
 * forgotten; the client does not notice.
 */
export class McpFront {
  readonly #deps: FrontDeps;
  readonly #inFlight = new Map<Id, Flight>();
  /** What is waited for at the end. */
  readonly #running = new Set<Promise<void>>();
  #handshake: Promise<void> = Promise.resolve();
  #isOver = false;
  #session: McpSession | undefined;
  #renewal: Promise<McpSession> | undefined;

  constructor(deps: FrontDeps) {
    this.#deps = deps;
  }

  /** Takes one line of the client, at any time. Resolves when its message is on its way: those behind the handshake wait for its end. */
  async take(line: string): Promise<void> {
    const taken = written(line);
    if (!taken) {
      const [code, what] =
        parse(line) === undefined
          ? [PARSE_ERROR, 'that line is not JSON']
          : [INVALID_REQUEST, 'a message is one JSON object'];
      await this.#deps.send(errorAnswer(null, code, what));
      return;
    }
    const method = methodOf(taken.message);
    const done = this.#handshake.then(() => this.#exchange(taken));
    if (method === 'initialize' || method === 'notifications/initialized') this.#handshake = done;
    // A subscription ends when the client wants it to, so there is nothing to wait for.
    if (method !== 'subscriptions/listen') this.#wait(done);
    await this.#handshake;
  }

  /** Waits for running requests until `late`, then ends them and the session. */
  async close(late: Promise<unknown>): Promise<void> {
    await Promise.race([Promise.all(this.#running), late]);
    this.#isOver = true;
    for (const { abort } of this.#inFlight.values()) abort.abort();
    if (this.#session) await this.#end(this.#session);
    await this.#deps.endpoint.close();
  }

  #wait(running: Promise<void>): void {
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  /** Brings a message of the client to the server and, for a request, its answer back. Never rejects. */
  async #exchange(taken: Written): Promise<void> {
    if (this.#isOver) return;
    const { message } = taken;
    const id = requestIdOf(message);
    const flight = createFlight(this.#deps.send);
    try {
      const method = methodOf(message);
      if (method === 'initialize') await this.#begin(taken, flight);
      else if (method === 'notifications/cancelled') await this.#cancel(taken, flight);
      else await this.#ask(taken, flight);
    } catch (error) {
      // A cancelled request gets no answer (MCP, cancellation); everything else gets exactly one.
      if (flight.abort.signal.aborted || flight.answer) return;
      const { code, text } = this.#describe(error);
      this.#deps.report(`${printable(methodOf(message) ?? 'an answer')}: ${text}`);
      if (id !== undefined)
        await this.#deps.send(
          errorAnswer(id, SERVER_ERROR, text, {
            code,
            ...(code === 'UPSTREAM_LOST' && { retryable: true, executed: 'unknown' }),
          }),
        );
    }
  }

  /** Closing the request's stream cancels it where the era or the server has no other way; a session is also told. */
  async #cancel(notification: Written, flight: Flight): Promise<void> {
    const id = idOf(paramsOf(notification.message)['requestId']);
    const told = this.#session ? this.#ask(notification, flight) : undefined;
    if (id !== undefined) {
      this.#inFlight.get(id)?.abort.abort();
      this.#inFlight.delete(id);
    }
    await told;
  }

  /** The client's own `initialize`: it begins a session and ends the one before. */
  async #begin(initialize: Written, flight: Flight): Promise<void> {
    const before = this.#session;
    this.#session = undefined;
    if (before) await this.#end(before);
    this.#session = await this.#open(initialize, flight);
  }

  /** @throws {OutriderError} SESSION_NOT_FOUND where the server refuses, in words of its own */
  async #open(initialize: Written, flight: Flight): Promise<McpSession> {
    const { headers } = await this.#tell(initialize, undefined, flight);
    if (!flight.answer || !('result' in flight.answer)) throw sessionOver();
    const id = headers['mcp-session-id'];
    return new McpSession(initialize, flight.answer, typeof id === 'string' ? id : undefined);
  }

  /** A message of the client, in its session if it is one of the session era. What met the end of a session was not carried out. */
  async #ask(asking: Written, flight: Flight): Promise<void> {
    const { message } = asking;
    const session = versionInMessage(message) === undefined ? this.#session : undefined;
    const { statusCode } = await this.#tell(asking, session, flight);
    if (!session || !isOver(session, statusCode)) return;
    const next = await this.#renew(session);
    // The answer to a question of a session that is over would be one to another question in the next.
    if (methodOf(message) === undefined) return;
    const again = await this.#tell(asking, next, flight);
    if (isOver(next, again.statusCode)) throw sessionOver();
  }

  /** Sends one message and hands over every message of its answer, unless that says that the session is over. */
  async #tell(told: Written, session: McpSession | undefined, flight: Flight): Promise<Answer> {
    const id = requestIdOf(told.message);
    if (id !== undefined) this.#inFlight.set(id, flight);
    try {
      const answer = await this.#post(told, session, flight);
      if (session && isOver(session, answer.statusCode)) await discard(answer);
      else {
        await this.#read(answer, session, flight, id);
        if (session) this.#accepted(told, session, flight);
      }
      return answer;
    } finally {
      if (id !== undefined && this.#inFlight.get(id) === flight) this.#inFlight.delete(id);
    }
  }

  #post(
    { text, message }: Written,
    session: McpSession | undefined,
    { abort }: Flight,
  ): Promise<Answer> {
    return this.#deps.endpoint.send({
      method: 'POST',
      headers: {
        ...session?.headers,
        ...standardHeaders(message),
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body: text,
      signal: abort.signal,
    });
  }

  #connect(
    session: McpSession | undefined,
    lastEventId: string | undefined,
    signal: AbortSignal,
  ): Promise<Answer> {
    // Headers are bytes; an id is text (WHATWG HTML section 9.2.2: encoded as UTF-8).
    const behind = lastEventId && Buffer.from(lastEventId, 'utf8').toString('latin1');
    return this.#deps.endpoint.send({
      method: 'GET',
      headers: {
        ...session?.headers,
        ...(behind === undefined ? {} : { 'last-event-id': behind }),
        accept: 'text/event-stream',
      },
      signal,
    });
  }

  /** @throws {OutriderError} where the answer that was asked for does not come, or a message without one is refused */
  async #read(
    answer: Answer,
    session: McpSession | undefined,
    flight: Flight,
    id: Id | undefined,
  ): Promise<void> {
    if (isEventStream(answer)) {
      const { signal } = flight.abort;
      const take = (text: string) => this.#deliver(text, session, id);
      // A stream of the stateless era cannot be taken up: its request is lost (MCP 2026-07-28).
      const isWanted = () => session !== undefined && id !== undefined && !flight.answer;
      await followStream(
        {
          connect: (lastEventId) => this.#connect(session, lastEventId, signal),
          take,
          goesOn: ({ lastEventId, failures }) =>
            isWanted() && lastEventId !== undefined && failures < RESUMES_MAX,
          signal,
        },
        answer,
      );
    } else {
      const text = await boundedText(answer.body, ANSWER_MAX_CHARACTERS);
      if (isJson(answer)) await this.#deliver(text, session, id);
    }
    const isAnswered = id === undefined ? answer.statusCode < 300 : flight.answer !== undefined;
    if (!isAnswered) throw withoutAnswer(answer.statusCode);
  }

  /** Hands over what came, with the id that its request has. */
  async #deliver(text: string, session: McpSession | undefined, asked?: Id): Promise<void> {
    for (const { text: line, message } of messagesIn(text)) {
      if (methodOf(message) !== undefined) {
        session?.asks(message);
        await this.#deps.send(line);
        continue;
      }
      const id = answers(message, asked);
      const flight = id === undefined ? undefined : this.#inFlight.get(id);
      if (id === undefined || !flight || flight.answer) continue;
      flight.answer = message;
      await flight.pass(id === answeredIdOf(message) ? line : withId(line, id));
    }
  }

  #accepted(told: Written, session: McpSession, { answer }: Flight): void {
    const id = answeredIdOf(told.message);
    if (id !== undefined) session.answered(id);
    else if (!answer || 'result' in answer) session.accepted(told);
    if (methodOf(told.message) === 'notifications/initialized') void this.#listen(session);
  }

  /** Hands over what the server says of itself in a session, for as long as that lasts. Never rejects. */
  async #listen(session: McpSession): Promise<void> {
    let hasStream = false;
    try {
      const refused = await followStream({
        connect: async (lastEventId) => {
          const answer = await this.#connect(session, lastEventId, session.over);
          hasStream ||= answer.statusCode === 200;
          return answer;
        },
        take: (text) => this.#deliver(text, session),
        goesOn: () => true,
        signal: session.over,
      });
      // A server that never had such a stream may say so with 404, too.
      if (refused !== undefined && hasStream && isOver(session, refused))
        await this.#renew(session);
    } catch (error) {
      if (!session.over.aborted)
        this.#deps.report(`messages of the server: ${this.#describe(error).text}`);
    }
  }

  /** One new session in the place of one that the server has forgotten, for all that meet its end (MCP 2025-11-25, session management). */
  #renew(ended: McpSession): Promise<McpSession> {
    if (this.#session && this.#session !== ended) return Promise.resolve(this.#session);
    this.#renewal ??= this.#again(ended).finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  /** @throws {OutriderError} SESSION_NOT_FOUND */
  async #again(ended: McpSession): Promise<McpSession> {
    const session = await this.#open(ended.initialize, createFlight()).catch((cause) => {
      throw sessionOver(cause);
    });
    try {
      // The client has been told a version, and cannot be told another.
      if (session.version !== ended.version) throw sessionOver();
      await this.#withdraw(ended.end());
      for (const told of ended.told) await this.#tell(told, session, createFlight());
    } catch (cause) {
      await this.#end(session);
      throw sessionOver(cause);
    }
    this.#session = session;
    return session;
  }

  /** Before the next session asks: its requests may have the ids of these. */
  async #withdraw(asked: readonly Id[]): Promise<void> {
    for (const requestId of asked)
      await this.#deps.send(
        JSON.stringify({
          jsonrpc: '2.0',
          method: 'notifications/cancelled',
          params: { requestId: rawJson(requestId), reason: 'the session that asked is over' },
        }),
      );
  }

  /** Never rejects. */
  async #end(session: McpSession): Promise<void> {
    session.end();
    if (session.id === undefined) return;
    await this.#deps.endpoint
      .send({
        method: 'DELETE',
        headers: session.headers,
        signal: AbortSignal.timeout(DELETE_TIMEOUT_MS),
      })
      .then(discard, () => {});
  }

  #describe(error: unknown): { readonly code: ErrorCode; readonly text: string } {
    if (error instanceof OutriderError) return { code: error.code, text: error.message };
    return error instanceof Error && 'code' in error && NEVER_CONNECTED.has(error.code)
      ? {
          code: 'UPSTREAM_UNREACHABLE',
          text: `no gateway can be reached at ${this.#deps.endpoint.address}`,
        }
      : { code: 'UPSTREAM_LOST', text: LOST };
  }
}

/** The codes of errors before a connection stood: the gateway has seen nothing of the request. */
const NEVER_CONNECTED: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** What others wrote, as part of one line. */
function printable(text: string): string {
  return text.slice(0, 100).replaceAll(/[^\x20-\x7e]/g, '?');
}

function createFlight(pass: Flight['pass'] = async () => {}): Flight {
  return { abort: new AbortController(), pass, answer: undefined };
}

function isOver({ id }: McpSession, status: number): boolean {
  return id !== undefined && status === 404;
}

function isJson({ headers }: Answer): boolean {
  return String(headers['content-type'] ?? '').startsWith('application/json');
}

/** The messages of a text, a line each: one, or those of a batch (MCP 2025-03-26). What is none is passed over. */
function messagesIn(text: string): Written[] {
  const one = written(text);
  const all = one ? [{ ...one, text: inOneLine(text) }] : batchIn(text);
  return all.filter(({ message }) => message['jsonrpc'] === '2.0');
}

function batchIn(text: string): Written[] {
  if (!Array.isArray(parse(text))) return [];
  const values: unknown[] = [exactly(text)].flat();
  return values.filter(isMessage).map((message) => ({ text: JSON.stringify(message), message }));
}

/**
 * The request that a message answers. An error without an id, as HTTP refusals are written, belongs to the one that was `asked`; so does
 * an id that is the same number once it is rounded: many servers hold no more of it.
 */
function answers(message: Message, asked: Id | undefined): Id | undefined {
  const id = answeredIdOf(message);
  if (id === undefined) return 'error' in message ? asked : undefined;
  return asked !== undefined && Number(id) === Number(asked) ? asked : id;
}

const LOST =
  'the connection broke before the answer was complete; whether the call took effect is unknown';

/** What is wrong with an answer that held none for the request. */
function withoutAnswer(status: number): OutriderError {
  if (status === 401)
    return new OutriderError(
      'UNAUTHENTICATED',
      'the gateway does not accept the token: see `outrider token`',
    );
  return status < 300
    ? new OutriderError('UPSTREAM_LOST', LOST)
    : new OutriderError('INTERNAL', `the gateway answered with HTTP status ${status}`);
}

function sessionOver(cause?: unknown): OutriderError {
  return new OutriderError(
    'SESSION_NOT_FOUND',
    'the session is over, and the server has begun no other; the call was not carried out',
    { cause },
  );
}
