import { createServer, type ServerResponse } from 'node:http';
import { type Dispatcher, Pool } from 'undici';
import { formatAddress } from '#core/address';
import { listen } from '#core/http';

// `node bare.ts PORT ORIGIN`: what the gateway does without all that makes it one: takes a request, dispatches it, passes the answer on.

const [port = '0', origin = ''] = process.argv.slice(2);
const pool = new Pool(origin);

class PassOn implements Dispatcher.DispatchHandler {
  readonly #response: ServerResponse;
  constructor(response: ServerResponse) {
    this.#response = response;
  }
  onRequestStart(): void {}
  onResponseStart(
    _: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    this.#response.writeHead(status, headers);
  }
  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#response.write(chunk);
  }
  onResponseEnd(): void {
    this.#response.end();
  }
  onResponseError(): void {
    this.#response.destroy();
  }
}

const server = createServer((request, response) => {
  const {
    'content-type': type,
    accept,
    'mcp-session-id': session,
    'content-length': length,
  } = request.headers;
  const headers = {
    'content-type': type,
    accept,
    'mcp-session-id': session,
    'content-length': length,
  };
  pool.dispatch(
    { method: request.method ?? 'POST', path: '/mcp', headers, body: request },
    new PassOn(response),
  );
});
const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port: Number(port) });
process.stdout.write(`${JSON.stringify({ address: formatAddress(address) })}\n`);
process.once('SIGTERM', () => process.exit());
