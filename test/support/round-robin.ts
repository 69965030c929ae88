import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { closeServer, listen } from '#core/http';

const NOT_PASSED = new Set(['connection', 'keep-alive', 'transfer-encoding', 'content-length']);

export interface RoundRobin {
  readonly port: number;
  /** How many requests each target was given, in the order of the targets. */
  readonly given: readonly number[];
  close(): Promise<void>;
}

/**
 * The dumbest balancer there is: each request goes to the next port in turn, whatever it carries, on a connection of its own. One
 * that refuses the connection is passed over, since nothing was sent to it. `extra` headers are added to each request.
 */
export async function roundRobin(
  targets: () => readonly number[],
  extra: Readonly<Record<string, string>> = {},
): Promise<RoundRobin> {
  let turn = 0;
  const given: number[] = [];
  const server = createServer((incoming, response) => {
    serve(incoming, response).catch(() => response.destroy());
  });

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(incoming);
    const ports = targets();
    const first = turn++;
    for (let tries = 0; tries < ports.length; tries++) {
      const index = (first + tries) % ports.length;
      const socket = await connected(ports[index] ?? 0);
      if (!socket) continue;
      given[index] = (given[index] ?? 0) + 1;
      return pass(incoming, body, response, socket);
    }
    response.writeHead(503).end();
  }

  async function pass(
    incoming: IncomingMessage,
    body: Buffer,
    response: ServerResponse,
    socket: Socket,
  ): Promise<void> {
    response.once('close', () => socket.destroy());
    if (response.destroyed) socket.destroy();
    const onward = request({
      method: incoming.method ?? 'GET',
      path: incoming.url ?? '/',
      headers: [
        ...passed(incoming.rawHeaders),
        ...Object.entries(extra).flat(),
        ...lengthOf(incoming, body),
      ],
      createConnection: () => socket,
    });
    onward.end(body);
    const [answer]: IncomingMessage[] = await once(onward, 'response');
    if (!answer) return;
    response.writeHead(answer.statusCode ?? 502, passed(answer.rawHeaders));
    response.flushHeaders();
    await pipeline(answer, response);
  }

  // The side that closes an idle connection first makes the other lose a request: let it be the clients.
  server.keepAliveTimeout = 65_000;
  const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  if (address.kind !== 'tcp') throw new Error('it listens on TCP');
  return { port: address.port, given, close: () => closeServer(server) };
}

/** An open connection, or undefined where it was refused. */
async function connected(port: number): Promise<Socket | undefined> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return socket;
  } catch {
    return undefined;
  }
}

function passed(raw: readonly string[]): string[] {
  return raw.flatMap((name, index) =>
    index % 2 === 0 && !NOT_PASSED.has(name.toLowerCase()) ? [name, raw[index + 1] ?? ''] : [],
  );
}

function lengthOf({ method }: IncomingMessage, body: Buffer): string[] {
  return method === 'POST' ? ['content-length', String(body.length)] : [];
}
