import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { Socket } from 'node:net';
import { answerNames } from './name-server.ts';

// Runs inside the network namespace of public-host.ts: a name server, and an https server on every address of it. Takes the
// certificate, the key and the table of names; says on stdout what was asked, who connected and what came, a JSON line each.

const [certificate = '', key = '', table = '{}'] = process.argv.slice(2);
/** The answers of a name, one list after the other; the last one stays. */
const names: Record<string, string[][]> = JSON.parse(table);

const say = (what: object) => process.stdout.write(`${JSON.stringify(what)}\n`);

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

answerNames(names, say, () => {
  server.listen(443, '0.0.0.0', () => say({ ready: true }));
});
