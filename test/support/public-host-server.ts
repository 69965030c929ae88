import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { Socket } from 'node:net';

// Runs inside the network namespace of public-host.ts: a name server, and an https server on every address of it. Takes the
// certificate, the key and the table of names; says on stdout what was asked, who connected and what came, a JSON line each.

const [certificate = '', key = '', table = '{}'] = process.argv.slice(2);
/** The answers of a name, one list after the other; the last one stays. */
const names: Record<string, string[][]> = JSON.parse(table);

const say = (what: object) => process.stdout.write(`${JSON.stringify(what)}\n`);

const dns = createSocket('udp4', (query, from) => {
  const labels: string[] = [];
  let at = 12;
  for (; query[at]; at += 1 + (query[at] ?? 0))
    labels.push(query.toString('latin1', at + 1, at + 1 + (query[at] ?? 0)));
  const name = labels.join('.');
  const isA = query.readUInt16BE(at + 1) === 1;
  const lists = names[name];
  const addresses = isA ? ((lists && lists.length > 1 ? lists.shift() : lists?.[0]) ?? []) : [];
  say({ asked: name, type: isA ? 'A' : 'other', answer: addresses });
  const records = addresses.map((address) =>
    Buffer.concat([
      Buffer.from([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]), // a TTL of 0: every look-up is a new one
      Buffer.from(address.split('.').map(Number)),
    ]),
  );
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(lists ? 0x8180 : 0x8183, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(records.length, 6);
  dns.send(Buffer.concat([head, query.subarray(12, at + 5), ...records]), from.port, from.address);
});

const server = createServer(
  { cert: readFileSync(certificate), key: readFileSync(key) },
  (request, response) => {
    const { method, url, headers } = request;
    let body = '';
    request.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
    request.on('end', () => {
      say({ request: { method, url, headers, body } });
      response.writeHead(200, { connection: 'close', 'content-type': 'text/plain' });
      response.end(`hello from ${request.socket.localAddress}`);
    });
  },
);
server.on('connection', (socket: Socket) => say({ connected: socket.localAddress }));
server.on('tlsClientError', () => {});

dns.bind(5353, '127.0.0.1', () => {
  server.listen(443, '0.0.0.0', () => say({ ready: true }));
});
