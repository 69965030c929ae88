import { Agent, type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

const HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
};
const INITIALIZE = {
  protocolVersion: '2025-11-25',
  capabilities: {},
  clientInfo: { name: 'chaos', version: '1' },
};
const COMES_BACK_AFTER_MS = 50;
/** Of all sessions. fetch() would take as much of the machine as what is under test. */
const AGENT = new Agent({ keepAlive: true });

/** What was answered to one message. */
interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly said: string;
}

/** What became of one call. Times are those of `performance.now()`. */
export interface Outcome {
  readonly from: number;
  readonly to: number;
  /** Undefined where it was answered with a result. */
  readonly problem: string | undefined;
}

/** A client as plain as can be: it tries nothing twice, so that whatever is lost on the way shows. */
export class Session {
  readonly #url: URL;
  #id: string | undefined;
  #requests = 0;

  constructor(url: URL) {
    this.#url = url;
  }

  /** @throws {Error} where the server does not take it */
  async open(): Promise<void> {
    const begun = await this.#post({ method: 'initialize', params: INITIALIZE, id: 0 });
    if (begun.status !== 200) throw new Error(`initialize: ${begun.status} ${begun.said}`);
    const id = begun.headers['mcp-session-id'];
    this.#id = typeof id === 'string' ? id : undefined;
    await this.#post({ method: 'notifications/initialized' });
  }

  /** Never rejects. */
  async call(name: string, given: Readonly<Record<string, unknown>> = {}): Promise<Outcome> {
    const from = performance.now();
    const problem = await this.#attempt(name, given).catch((error: unknown) => String(error));
    return { from, to: performance.now(), problem };
  }

  /** The process that has the session, of servers that say so. @throws {Error} where it does not answer */
  async replica(): Promise<number> {
    const params = { name: 'replica', arguments: {} };
    const id = ++this.#requests;
    const { said } = await this.#post({ method: 'tools/call', params, id });
    return Number(/process (\d+)/.exec(said)?.[1] ?? Number.NaN);
  }

  /** What the session's event stream says, in order, for as long as `wanted` is true; where it breaks, it goes on behind the last event that came. `opened` is called each time that the stream is there. */
  async *events(wanted: () => boolean, opened: () => void): AsyncGenerator {
    let last: string | undefined;
    while (wanted()) {
      try {
        for await (const { id, data } of this.#stream(last, opened)) {
          last = id ?? last;
          if (data !== '') yield JSON.parse(data);
          if (!wanted()) return;
        }
      } catch {
        // cut off: that is what this is about
      }
      await sleep(COMES_BACK_AFTER_MS);
    }
  }

  async *#stream(
    last: string | undefined,
    opened: () => void,
  ): AsyncGenerator<{ id: string | undefined; data: string }> {
    const response = await fetch(this.#url, {
      headers: {
        ...this.#headers(),
        accept: 'text/event-stream',
        ...(last !== undefined && { 'last-event-id': last }),
      },
    });
    if (response.status !== 200 || !response.body) {
      await response.text();
      return;
    }
    opened();
    let rest = '';
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      const events = (rest + chunk).split('\n\n');
      rest = events.pop() ?? '';
      yield* events.map((event) => ({ id: field(event, 'id'), data: field(event, 'data') ?? '' }));
    }
  }

  /** Undefined, or why there is no result. */
  async #attempt(
    name: string,
    given: Readonly<Record<string, unknown>>,
  ): Promise<string | undefined> {
    const id = ++this.#requests;
    const params = { name, arguments: given };
    const { status, said } = await this.#post({ method: 'tools/call', params, id });
    const good = status === 200 && said.includes('"result"') && !said.includes('"isError":true');
    return good ? undefined : `${status} ${said.slice(0, 200)}`;
  }

  async #post(message: Readonly<Record<string, unknown>>): Promise<Answer> {
    const body = JSON.stringify({ jsonrpc: '2.0', ...message });
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      request(this.#url, { agent: AGENT, method: 'POST', headers: this.#headers() }, resolve)
        .on('error', reject)
        .end(body);
    });
    return { status: answer.statusCode, headers: answer.headers, said: await text(answer) };
  }

  #headers(): Record<string, string> {
    return { ...HEADERS, ...(this.#id !== undefined && { 'mcp-session-id': this.#id }) };
  }
}

function field(event: string, name: string): string | undefined {
  const line = event.split('\n').find((one) => one.startsWith(`${name}:`));
  return line?.slice(name.length + 1).trimStart();
}
