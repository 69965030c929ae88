import { createServer, type IncomingMessage, type Server } from 'node:http';
import { Duplex } from 'node:stream';
import { type After, type Reader, type Reading, type Seen, whatwgUrl } from './reading.ts';

/** node:http, which is llhttp, with all its checks or with none. */
export function nodeReader(name: string, lenient: boolean): Reader {
  const server = createServer({
    insecureHTTPParser: lenient,
    requireHostHeader: false,
    maxHeaderSize: 65_536,
    connectionsCheckingInterval: 3_600_000,
  });
  Reflect.set(server, 'httpAllowHalfOpen', true); // each text ends, and its requests are still to be told
  const open = new WeakMap<object, Connection>();
  const begin = (request: IncomingMessage): void => open.get(request.socket)?.begin(request);
  server.on('request', (request, response) => {
    begin(request);
    request.on('error', () => {}).on('end', () => response.end());
  });
  for (const event of ['checkContinue', 'checkExpectation'] as const)
    server.on(event, (request, response) => server.emit('request', request, response));
  for (const event of ['connect', 'upgrade'] as const)
    server.on(event, (request: IncomingMessage) => open.get(request.socket)?.tunnel(request));
  server.on('clientError', (error: NodeJS.ErrnoException, socket) =>
    open.get(socket)?.fail(error.code ?? ''),
  );
  const readOne = (text: string): Promise<Reading> => {
    const connection = new Connection();
    open.set(connection.socket, connection);
    return connection.read(server, text);
  };
  return {
    name,
    read: readOne,
    stop: () => void server.close(),
  };
}

/** The bytes of one text as a connection to a server, and what came of them. */
class Connection {
  readonly socket: Duplex;
  readonly #requests: { seen: Seen; body: Buffer[]; whole: boolean }[] = [];
  #after: After | undefined;

  constructor() {
    this.socket = new Duplex({
      read: () => {},
      write: (_chunk, _encoding, done) => done(), // answers are of no interest
    });
  }

  async read(server: Server, text: string): Promise<Reading> {
    const closed = new Promise((resolve) => this.socket.once('close', resolve));
    this.socket.on('error', () => {});
    server.emit('connection', this.socket);
    this.socket.push(Buffer.from(text, 'latin1'));
    this.socket.push(null);
    await closed;
    const whole = this.#requests.filter((request) => request.whole);
    const cut = this.#requests.length > whole.length;
    return {
      requests: whole.map(({ seen, body }) => ({
        ...seen,
        body: Buffer.concat(body).toString('latin1'),
      })),
      after: this.#after ?? (cut ? 'waiting' : 'end'),
    };
  }

  begin(request: IncomingMessage): void {
    const entry = { seen: seenOf(request), body: [] as Buffer[], whole: false };
    this.#requests.push(entry);
    request.on('data', (chunk: Buffer) => entry.body.push(chunk));
    request.on('end', () => {
      entry.whole = request.complete;
    });
  }

  tunnel(request: IncomingMessage): void {
    this.#requests.push({ seen: seenOf(request), body: [], whole: true });
    this.#after = 'tunnel';
    this.socket.destroy();
  }

  fail(code: string): void {
    this.#after ??=
      code === 'HPE_INVALID_EOF_STATE'
        ? 'waiting'
        : code === 'HPE_CLOSED_CONNECTION'
          ? 'closed'
          : 'refused';
    setImmediate(() => this.socket.destroy()); // what was read before is still to be told
  }
}

function seenOf({ method = '', url = '', rawHeaders }: IncomingMessage): Seen {
  const at = rawHeaders.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === 'host');
  const host = at < 0 ? undefined : rawHeaders[at + 1];
  return { method, target: url, url: whatwgUrl(url), host, body: '' };
}
