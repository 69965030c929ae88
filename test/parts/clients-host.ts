import { spawn } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { answerNames } from '../support/name-server.ts';

// Runs inside the network namespace of clients.test.ts: hosts that answer what the clients of developers ask for, over http and https
// (HTTP/1.1 and HTTP/2). Takes certificate, key, names and a directory: in it one directory a host with its files, where NAME.redirect
// holds the address that NAME is at; below git/ repositories that git's own http-backend serves. Says what was asked, a JSON line each.

const [certificate = '', key = '', table = '{}', directory = ''] = process.argv.slice(2);

const say = (what: object) => process.stdout.write(`${JSON.stringify(what)}\n`);

function serve(
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
): void {
  const { method = '', headers } = request;
  const authority = headers[':authority'] ?? headers.host;
  const host = String(authority).replace(/:\d+$/, '');
  const url = new URL(request.url ?? '/', `https://${host}`);
  say({ request: { method, url: url.href, headers, body: '' } });
  if (host.startsWith('git.')) return serveGit(url, request, response);
  if (host.startsWith('grpc.')) return echo(request, response);
  const path = join(directory, host, decodeURIComponent(url.pathname));
  const file = [path, join(path, 'index.html'), join(path, 'index.json')].find(isFile);
  if (file !== undefined) {
    response.setHeader('content-type', file.endsWith('.json') ? 'application/json' : 'text/html');
    response.end(readFileSync(file));
  } else if (isFile(`${path}.redirect`)) {
    response.statusCode = 302;
    response.setHeader('location', readFileSync(`${path}.redirect`, 'utf8').trim());
    response.end();
  } else {
    response.statusCode = 404;
    response.end('not found\n');
  }
}

/** A unary call of gRPC: the message comes back, and behind it that all is well. */
function echo(
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
): void {
  response.setHeader('content-type', 'application/grpc');
  response.setHeader('trailer', 'grpc-status');
  response.addTrailers({ 'grpc-status': '0' });
  request.pipe(response);
}

const isFile = (path: string): boolean => existsSync(path) && statSync(path).isFile();

/** CGI (RFC 3875) as far as git's program needs it. */
function serveGit(
  url: URL,
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
): void {
  const git = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env['PATH'],
      GIT_PROJECT_ROOT: join(directory, 'git'),
      GIT_HTTP_EXPORT_ALL: '1',
      REQUEST_METHOD: request.method ?? '',
      PATH_INFO: url.pathname,
      QUERY_STRING: url.search.slice(1),
      CONTENT_TYPE: request.headers['content-type'] ?? '',
      HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
      HTTP_GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  request.pipe(git.stdin);
  git.stdin.on('error', () => {}); // it may answer without reading
  const chunks: Buffer[] = [];
  git.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  git.stdout.once('end', () => {
    const answer = Buffer.concat(chunks);
    const end = answer.indexOf('\r\n\r\n');
    for (const line of answer.toString('latin1', 0, end).split('\r\n')) {
      const [name = '', value = ''] = line.split(': ');
      if (name === 'Status') response.statusCode = Number.parseInt(value, 10);
      else response.setHeader(name, value);
    }
    response.end(answer.subarray(end + 4));
  });
}

const https = createSecureServer(
  { cert: readFileSync(certificate), key: readFileSync(key), allowHTTP1: true },
  serve,
);
const http = createServer(serve);
for (const server of [https, http])
  server.on('connection', (socket: Socket) => say({ connected: socket.localAddress }));
https.on('tlsClientError', () => {}).on('sessionError', () => {});

answerNames(JSON.parse(table), say, () => {
  http.listen(80, '0.0.0.0', () => {
    https.listen(443, '0.0.0.0', () => say({ ready: true }));
  });
});
