import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { hashLine, readLine } from '#core/audit';

/** One request as it came out of the door. Texts are Latin-1. */
export interface Recorded {
  readonly method: string;
  readonly url: string;
  readonly host: string | undefined;
  readonly body: string;
  /** Its bytes, as undici wrote them. */
  readonly wire: string;
}

/** Plays the proxy: keeps every request that is whole under the number that it answers with in `x-seen`, and stores audit records. */
export class Recorder {
  readonly #server = createServer((request, response) => this.#serve(request, response));
  readonly #wires = new WeakMap<Socket, string[]>();
  readonly #seen = new Map<number, Recorded>();
  #count = 0;

  constructor() {
    this.#server.on('connection', (socket: Socket) => {
      const wire: string[] = [];
      this.#wires.set(socket, wire);
      socket.on('data', (chunk: Buffer) => wire.push(chunk.toString('latin1')));
    });
  }

  listen(path: string): Promise<void> {
    return new Promise((resolve) => void this.#server.listen({ path }, resolve));
  }

  /** Takes out what was recorded under a number. */
  take(number: number): Recorded | undefined {
    const recorded = this.#seen.get(number);
    this.#seen.delete(number);
    return recorded;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on('error', () => {}).on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString('latin1');
      const wire = this.#wires.get(request.socket)?.splice(0).join('') ?? '';
      if (request.url === '/.outrider/audit') return acknowledge(body, response);
      this.#count += 1;
      const { method = '', url = '', headers } = request;
      this.#seen.set(this.#count, { method, url, host: headers.host, body, wire });
      response.writeHead(204, { 'x-seen': this.#count }).end();
    });
  }
}

function acknowledge(body: string, response: ServerResponse): void {
  const last = body.trimEnd().split('\n').at(-1) ?? '';
  const { writer, seq } = readLine(last) ?? {};
  response.end(JSON.stringify({ acknowledged: { writer, seq, hash: hashLine(last) } }));
}
