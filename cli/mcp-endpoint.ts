import { Agent, type Dispatcher, request } from 'undici';
import type { TokenSource } from './mcp-token.ts';

export type Answer = Dispatcher.ResponseData;

export interface Exchange {
  readonly method: 'POST' | 'GET' | 'DELETE';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
}

/** The gateway's address, with the token of the moment. Follows no redirect, so the token goes nowhere else. */
export class McpEndpoint {
  readonly #url: URL;
  readonly #token: TokenSource;
  readonly #agent = new Agent({ headersTimeout: 0, bodyTimeout: 0, connect: { timeout: 5_000 } });

  constructor(url: URL, token: TokenSource) {
    this.#url = url;
    this.#token = token;
  }

  /** Sends once, and once more where the token was refused and has changed since: what is answered 401 was not carried out. */
  async send(exchange: Exchange): Promise<Answer> {
    const token = this.#token();
    const answer = await this.#request(exchange, token);
    if (answer.statusCode !== 401) return answer;
    const next = this.#token();
    if (next === token) return answer;
    await discard(answer);
    return this.#request(exchange, next);
  }

  /** For people. A query may hold what is not for all of them. */
  get address(): string {
    return `${this.#url.origin}${this.#url.pathname}`;
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  #request({ headers, ...exchange }: Exchange, token: string | undefined): Promise<Answer> {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    return request(this.#url, {
      ...exchange,
      headers: { ...headers, ...authorization },
      dispatcher: this.#agent,
    });
  }
}

export function isEventStream({ headers }: Answer): boolean {
  return String(headers['content-type'] ?? '').startsWith('text/event-stream');
}

/** Reads an answer that nobody wants, so that its connection can be used again. Never rejects. */
export async function discard({ body }: Answer): Promise<void> {
  await body.dump().catch(() => {});
}
