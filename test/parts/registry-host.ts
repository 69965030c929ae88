import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

// Runs inside the network namespace of dependencies.test.ts: a name server that knows one address, and there a simple index of
// pip and a registry of npm. Takes the address and a file with the answers by path; says on stdout what was asked, a JSON line each.

const [address = '', answersFile = ''] = process.argv.slice(2);
/** By path: the type, and the body in base64. */
const answers: Record<string, readonly [string, string]> = JSON.parse(
  readFileSync(answersFile, 'utf8'),
);

const say = (what: object) => process.stdout.write(`${JSON.stringify(what)}\n`);

const dns = createSocket('udp4', (query, from) => {
  let at = 12;
  while (query[at]) at += 1 + (query[at] ?? 0);
  const isA = query.readUInt16BE(at + 1) === 1;
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(0x8180, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(isA ? 1 : 0, 6);
  const record = Buffer.from([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
  const answer = isA ? [record, Buffer.from(address.split('.').map(Number))] : [];
  dns.send(Buffer.concat([head, query.subarray(12, at + 5), ...answer]), from.port, from.address);
});

const http = createServer((request, response) => {
  const path = decodeURIComponent(request.url ?? '');
  say({ asked: path });
  if (path.includes('/hangs/')) return; // for as long as it is asked
  const [type, body] = answers[path] ?? ['text/plain', ''];
  response.writeHead(path in answers ? 200 : 404, { 'content-type': type });
  response.end(Buffer.from(body, 'base64'));
});

dns.bind(5353, '127.0.0.1', () => {
  http.listen(80, address, () => say({ ready: true }));
});
