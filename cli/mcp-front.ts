import { Agent, type Dispatcher, request } from 'undici';
import { type ErrorCode, OutriderError } from '#core/errors';
import { eventData } from './event-stream.ts';
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
  requestIdOf,
  SERVER_ERROR,
} from './json-rpc.ts';
import { standardHeaders, versionInMessage } from './mcp-headers.ts';

export interface FrontDeps {
  readonly url: URL;
  /** Undefined for a gateway that asks for none. */
  readonly token: string | undefined;
  /** Takes one message for the client. */
  readonly send: (message: unknown) => void;
  /** Takes one line for a person. */
  readonly report: (line: string) => void;
}

type Answer = Dispatcher.ResponseData;

/**
 * One stdio client's front to a gateway: each message goes out as one POST, each message that comes back goes to the client.
 * Requests run at the same time; every request gets exactly one answer, an error where the gateway gave none.
 */
export class McpFront {
  readonly #deps: FrontDeps;
  readonly #agent = new Agent({ headersTimeout: 0, bodyTimeout: 0, connect: { timeout: 5_000 } });
  readonly #inFlight = new Map<Id, AbortController>();
  readonly #running = new Set<Promise<void>>();
  /** Of the session era: issued by the answer to `initialize`, sent with everything after it. */
  #session: { readonly id: string | undefined; readonly version: string | undefined } | undefined;

  constructor(deps: FrontDeps) {
    this.#deps = deps;
  }

  /** Takes one line of the client. Resolves when the next one may be taken: at once, but for the handshake, which has an order. */
  async take(line: string): Promise<void> {
    let parsed: unknown;
    try {
      parsed = JSON.parse(line);
    } catch {
      this.#deps.send(errorAnswer(null, PARSE_ERROR, 'that line is not JSON'));
      return;
    }
    if (!isMessage(parsed)) {
      this.#deps.send(errorAnswer(null, INVALID_REQUEST, 'a message is one JSON object'));
      return;
    }
    const method = methodOf(parsed);
    if (method === 'notifications/cancelled') this.#cancel(parsed);
    else {
      const done = this.#exchange(parsed);
      this.#running.add(done);
      void done.finally(() => this.#running.delete(done));
      if (method === 'initialize' || method === 'notifications/initialized') await done;
    }
  }

  /** Waits for running requests, at most `graceMs`, then ends them and the session. */
  async close(graceMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([Promise.all(this.#running), late]);
    clearTimeout(timer);
    for (const abort of this.#inFlight.values()) abort.abort();
    if (this.#session?.id !== undefined) await this.#endSession().catch(() => {});
    await this.#agent.destroy();
  }

  /** Closing the request's stream cancels it where the era or the server has no other way; a session is also told. */
  #cancel(notification: Message): void {
    const id = idOf(paramsOf(notification)['requestId']);
    if (this.#session) void this.#exchange(notification);
    if (id === undefined) return;
    this.#inFlight.get(id)?.abort();
    this.#inFlight.delete(id);
  }

  async #exchange(message: Message): Promise<void> {
    const id = requestIdOf(message);
    const abort = new AbortController();
    if (id !== undefined) this.#inFlight.set(id, abort);
    try {
      const answer = await this.#post(message, abort.signal);
      const answered = await this.#deliver(answer, message, id);
      if (id !== undefined && !answered) throw withoutAnswer(answer.statusCode);
    } catch (error) {
      // A cancelled request gets no answer (MCP, cancellation); everything else gets exactly one.
      if (!abort.signal.aborted) this.#fail(id, methodOf(message), error);
    } finally {
      if (id !== undefined && this.#inFlight.get(id) === abort) this.#inFlight.delete(id);
    }
  }

  #post(message: Message, signal: AbortSignal): Promise<Answer> {
    return request(this.#deps.url, {
      method: 'POST',
      dispatcher: this.#agent,
      headers: {
        ...this.#commonHeaders(versionInMessage(message) === undefined),
        ...standardHeaders(message),
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body: JSON.stringify(message),
      signal,
    });
  }

  #commonHeaders(sessionEra: boolean): Record<string, string> {
    const { id, version } = (sessionEra ? this.#session : undefined) ?? {};
    return {
      ...(this.#deps.token === undefined ? {} : { authorization: `Bearer ${this.#deps.token}` }),
      ...(id === undefined ? {} : { 'mcp-session-id': id }),
      ...(version === undefined ? {} : { 'mcp-protocol-version': version }),
    };
  }

  /** Hands over every message of an answer; whether one of them answered `id`. */
  async #deliver(answer: Answer, asked: Message, id: Id | undefined): Promise<boolean> {
    let answered = false;
    for await (const text of messagesOf(answer)) {
      const message = withId(parse(text), id);
      if (message === undefined) continue;
      if (id !== undefined && answeredIdOf(message) === id) {
        answered = true;
        if (methodOf(asked) === 'initialize') this.#openSession(message, answer);
      }
      // A refused notification has nobody to answer to.
      if (id !== undefined || !('error' in message)) this.#deps.send(message);
    }
    if (id === undefined && answer.statusCode >= 300)
      this.#fail(undefined, methodOf(asked), withoutAnswer(answer.statusCode));
    return answered;
  }

  #openSession(message: Message, answer: Answer): void {
    const result = isMessage(message['result']) ? message['result'] : undefined;
    if (result === undefined) return;
    const id = answer.headers['mcp-session-id'];
    const version = result['protocolVersion'];
    this.#session = {
      id: typeof id === 'string' ? id : undefined,
      version: typeof version === 'string' ? version : undefined,
    };
  }

  async #endSession(): Promise<void> {
    const { body } = await request(this.#deps.url, {
      method: 'DELETE',
      dispatcher: this.#agent,
      headers: this.#commonHeaders(true),
      signal: AbortSignal.timeout(2_000),
    });
    await body.dump();
  }

  #fail(id: Id | undefined, method: string | undefined, error: unknown): void {
    const { code, message } = describe(error, this.#deps.url);
    this.#deps.report(`${method ?? 'an answer'}: ${message}`);
    if (id !== undefined) this.#deps.send(errorAnswer(id, SERVER_ERROR, message, { code }));
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

function describe(error: unknown, url: URL): { code: ErrorCode; message: string } {
  if (error instanceof OutriderError) return { code: error.code, message: error.message };
  return error instanceof Error && 'code' in error && NEVER_CONNECTED.has(error.code)
    ? { code: 'UPSTREAM_UNREACHABLE', message: `no gateway can be reached at ${url.href}` }
    : { code: 'UPSTREAM_LOST', message: LOST };
}

async function* messagesOf(answer: Answer): AsyncGenerator<string> {
  const type = String(answer.headers['content-type'] ?? '');
  if (type.startsWith('text/event-stream')) yield* eventData(answer.body);
  else {
    const text = await answer.body.text();
    if (type.startsWith('application/json')) yield text;
  }
}

function parse(text: string): Message | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isMessage(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** An error without an id, as HTTP refusals are written, belongs to the request whose answer it is. */
function withId(message: Message | undefined, id: Id | undefined): Message | undefined {
  if (message === undefined || message['jsonrpc'] !== '2.0') return undefined;
  const orphan = 'error' in message && idOf(message['id']) === undefined;
  return orphan && id !== undefined ? { ...message, id } : message;
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
