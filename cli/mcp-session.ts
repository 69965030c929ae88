import {
  type Id,
  isMessage,
  type Message,
  methodOf,
  paramsOf,
  requestIdOf,
  type Written,
} from './json-rpc.ts';

const SETTINGS_MAX = 1_000;

/** A session, up to MCP 2025-11-25: what goes with each of its requests, and what it takes to begin it again. */
export class McpSession {
  /** The client's request that began it. */
  readonly initialize: Written;
  /** Undefined where the server keeps no sessions. */
  readonly id: string | undefined;
  readonly version: string | undefined;
  readonly #over = new AbortController();
  /** Requests of the server that the client has not answered. */
  readonly #asked = new Set<Id>();
  /** The client's `notifications/initialized`, then what it has set, by what it is about. */
  readonly #told = new Map<string, Written>();

  constructor(initialize: Written, answer: Message, id: string | undefined) {
    const result = isMessage(answer['result']) ? answer['result'] : {};
    const version = result['protocolVersion'];
    this.initialize = initialize;
    this.id = id;
    this.version = typeof version === 'string' ? version : undefined;
  }

  get headers(): Record<string, string> {
    return {
      ...(this.id === undefined ? {} : { 'mcp-session-id': this.id }),
      ...(this.version === undefined ? {} : { 'mcp-protocol-version': this.version }),
    };
  }

  /** Fires when the session is over. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** What the client has to say again in a session that takes this one's place, in this order. */
  get told(): readonly Written[] {
    return [...this.#told.values()];
  }

  /** Takes note of a message that the server has accepted. */
  accepted(told: Written): void {
    const method = methodOf(told.message);
    const resource = `resource ${String(paramsOf(told.message)['uri'])}`;
    if (method === 'notifications/initialized' || method === 'logging/setLevel')
      this.#told.set(method, told);
    else if (method === 'resources/subscribe' && this.#told.size < SETTINGS_MAX)
      this.#told.set(resource, told);
    else if (method === 'resources/unsubscribe') this.#told.delete(resource);
  }

  /** Takes note of a message of the server on its way to the client. */
  asks(message: Message): void {
    const id = requestIdOf(message);
    if (id !== undefined) this.#asked.add(id);
  }

  /** Takes note of what the client has answered. */
  answered(id: Id): void {
    this.#asked.delete(id);
  }

  /** Ends its streams; the server's requests that nobody waits for any more. */
  end(): readonly Id[] {
    this.#over.abort();
    const asked = [...this.#asked];
    this.#asked.clear();
    return asked;
  }
}
