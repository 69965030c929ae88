import { Pool } from 'undici';
import { quantile } from '../measure.ts';
import { Caller } from './caller.ts';

/** One that takes longer hangs. */
const ANSWERS_WITHIN_MS = 10_000;

const HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
};
const INITIALIZE = JSON.stringify({
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'bench', version: '1' },
  },
});
const INITIALIZED = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' });

/** A client with a session that calls one tool as fast as it is answered. @throws {Error} where it is not answered with a result */
export class BenchClient {
  readonly #pool: Pool;
  readonly #port: number;
  #headers: Record<string, string>;
  #calls = 0;

  constructor(port: number, token: string | undefined, connections: number) {
    this.#port = port;
    this.#pool = new Pool(`http://127.0.0.1:${port}`, {
      connections,
      pipelining: 1,
      headersTimeout: ANSWERS_WITHIN_MS,
      bodyTimeout: ANSWERS_WITHIN_MS,
    });
    this.#headers = {
      ...HEADERS,
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    };
  }

  /** Begins a session, and another each time. */
  async open(): Promise<void> {
    const { headers } = await this.#post(INITIALIZE, '"result"');
    const id = headers['mcp-session-id'];
    if (typeof id === 'string') this.#headers = { ...this.#headers, 'mcp-session-id': id };
    await this.#post(INITIALIZED, '');
  }

  /** Only the first request of a session, which is all that a client sends that dies. */
  async openAndLeave(): Promise<void> {
    await this.#post(INITIALIZE, '"result"');
  }

  /** Calls in a second, with so many under way at once for so long. */
  async rate(atOnce: number, ms: number): Promise<number> {
    const callers = await Promise.all(
      Array.from({ length: atOnce }, () => Caller.to(this.#port, this.#headers)),
    );
    const from = performance.now();
    let calls = 0;
    await Promise.all(
      callers.map((caller) =>
        caller.post(() => {
          if (performance.now() - from >= ms) return undefined;
          calls += 1;
          return this.#nextCall();
        }),
      ),
    );
    const rate = calls / ((performance.now() - from) / 1_000);
    for (const caller of callers) caller.close();
    return rate;
  }

  /** Milliseconds of calls, one after the other. */
  async latencies(count: number): Promise<number[]> {
    const samples: number[] = [];
    for (let call = 0; call < count; call++) {
      const from = performance.now();
      await this.#call();
      samples.push(performance.now() - from);
    }
    return samples;
  }

  close(): Promise<void> {
    return this.#pool.destroy();
  }

  #call() {
    return this.#post(this.#nextCall(), '"result"');
  }

  /** Each with an id of its own, as a session wants it. */
  #nextCall(): string {
    return `{"jsonrpc":"2.0","id":${++this.#calls},"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}`;
  }

  async #post(body: string, wanted: string) {
    const answer = await this.#pool.request({
      method: 'POST',
      path: '/mcp',
      headers: this.#headers,
      body,
    });
    const said = await answer.body.text();
    if (answer.statusCode >= 300 || !said.includes(wanted))
      throw new Error(`a request was answered ${answer.statusCode}: ${said.slice(0, 300)}`);
    return answer;
  }
}

/** Middle of some figures. */
export function median(figures: readonly number[]): number {
  return quantile(figures, 0.5);
}
