import assert from 'node:assert/strict';
import type { RequestListener, Server, ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { connect as connectTls } from 'node:tls';
import type { HttpRequest, HttpResponse } from '../../http-exchange.ts';
import { createServer } from '../../node-http.ts';
import { selfSigned } from '../../testing/pki.ts';
import { PlainRequest } from '../plain-request.ts';
import { PlainServer } from '../plain-server.ts';
import { ExactConnection, until } from '../test-rig.ts';

export const HEAD_MAX_BYTES = 16_384;

/** Who reads the requests: ours what is plain and Node the rest, or Node everything. */
export type Lane = 'ours' | 'node';

export type Serve = (request: HttpRequest, response: HttpResponse) => void;

export interface Served {
  readonly server: Server;
  readonly port: number;
  /** What came to the listener, in order; of each, whether it was taken as plain. */
  readonly requests: readonly { readonly url: string; readonly isPlain: boolean }[];
  readonly dial: () => ExactConnection;
  /** The server's side of a connection of `dial`. */
  readonly otherSide: (client: ExactConnection) => Promise<Socket>;
  /** Waits until all that has been sent has been read; not over TLS, which writes more than it is given. */
  readonly hasRead: (client: ExactConnection) => Promise<void>;
}

/** A server whose requests go to `serve`; it ends with the test. */
export async function served(
  t: TestContext,
  serve: Serve,
  { lane = 'ours', ...options }: ServerOptions & { readonly lane?: Lane } = {},
): Promise<Served> {
  const server = createServer(options, listenerOf(serve));
  if (lane === 'ours') PlainServer.of(server, HEAD_MAX_BYTES);
  return opened(t, server, (port) => connect({ port, host: '127.0.0.1' }));
}

/** The same over TLS. */
export async function servedOverTls(t: TestContext, serve: Serve): Promise<Served> {
  const { key, cert } = selfSigned(t);
  const server = createTlsServer({ key, cert }, listenerOf(serve));
  const [readHttp] = server.listeners('secureConnection');
  const toNode = (socket: Socket): void => void readHttp?.call(server, socket);
  const plain = new PlainServer(server, toNode, HEAD_MAX_BYTES);
  server
    .removeAllListeners('secureConnection')
    .on('secureConnection', (socket: Socket) => plain.accept(socket));
  return opened(t, server, (port) => connectTls({ port, host: '127.0.0.1', ca: cert }));
}

/** What Node gives is a request and an answer of ours, too. */
function listenerOf(serve: Serve): RequestListener {
  return (request, response) => serve(request, response);
}

async function opened(
  t: TestContext,
  server: Server,
  dial: (port: number) => Socket,
): Promise<Served> {
  const requests: { url: string; isPlain: boolean }[] = [];
  const clients: Socket[] = [];
  server.prependListener('request', (request: HttpRequest) => {
    requests.push({ url: request.url ?? '', isPlain: request instanceof PlainRequest });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const { port } = address;
  const sockets = new Map<number | undefined, Socket>();
  server.prependListener('connection', (socket: Socket) => {
    sockets.set(socket.remotePort, socket);
    socket.once('close', () => sockets.delete(socket.remotePort));
  });
  const otherSide = async ({ socket }: ExactConnection): Promise<Socket> => {
    const found = (): Socket | undefined => sockets.get(socket.localPort);
    await until('the connection', () => found() !== undefined);
    const there = found();
    assert.ok(there);
    return there;
  };
  t.after(() => {
    for (const client of clients) client.destroy();
    server.close();
    server.closeAllConnections();
  });
  return {
    server,
    port,
    requests,
    dial: () => {
      const socket = dial(port);
      clients.push(socket);
      return new ExactConnection(socket);
    },
    otherSide,
    hasRead: async (client) => {
      const there = await otherSide(client);
      await until('all to be read', () => there.bytesRead === client.socket.bytesWritten);
    },
  };
}

export function get(path: string, ...lines: readonly string[]): string {
  return [`GET ${path} HTTP/1.1`, 'Host: a.test', ...lines, '', ''].join('\r\n');
}

export function post(path: string, body: string, ...lines: readonly string[]): string {
  const head = [`POST ${path} HTTP/1.1`, 'Host: a.test', `Content-Length: ${body.length}`];
  return `${[...head, ...lines, '', ''].join('\r\n')}${body}`;
}
