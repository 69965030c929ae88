import { Resolver } from 'node:dns/promises';
import {
  createServer,
  request as forward,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { connect, isIP, type Socket } from 'node:net';

// A forwarding proxy as one writes it in half an hour: it reads leniently, asks for any name, dials any address, looks into nothing. The
// battery must find fault with it. Takes its port and the name server; says {"ready": true} on stdout.

const [own = '3128', nameServer = '127.0.0.1:5353'] = process.argv.slice(2);
const names = new Resolver();
names.setServers([nameServer]);

async function addressOf(host: string): Promise<string> {
  if (isIP(host)) return host;
  const [address = ''] = await names.resolve4(host);
  return address;
}

async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const fail = (): void => void response.writeHead(502).end();
  const url = URL.parse(request.url ?? '');
  if (!url) return fail();
  const { method, headers } = request;
  const host = await addressOf(url.hostname);
  const path = `${url.pathname}${url.search}`;
  const onward = forward({ host, port: url.port || 80, method, path, headers, agent: false });
  onward.on('error', fail).on('response', (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  request.pipe(onward);
}

async function join(authority: string, socket: Socket, head: Buffer): Promise<void> {
  const [, host = '', port = '443'] = /^\[?(.*?)\]?:(\d+)$/.exec(authority) ?? [];
  const onward = connect(Number(port), await addressOf(host));
  const end = (): void => {
    onward.destroy();
    socket.destroy();
  };
  socket.on('error', end);
  onward.on('error', end).once('connect', () => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    onward.write(head);
    socket.pipe(onward).pipe(socket);
  });
}

const server = createServer({ insecureHTTPParser: true, requireHostHeader: false });
server
  .on('request', (request, response) => {
    pass(request, response).catch(() => response.destroy());
  })
  .on('connect', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    join(request.url ?? '', socket, head).catch(() => socket.destroy());
  })
  .on('clientError', (_error, socket) => socket.destroy());
server.listen(Number(own), '127.0.0.1', () => process.stdout.write('{"ready":true}\n'));
