import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { createSecureContext, TLSSocket } from 'node:tls';
import { type NameAnswer, startDns } from './canary-dns.ts';

// Runs inside the harness's network namespace: the name server and every origin of the fixtures, on every address there is. It is
// told on stdin what to answer (a line of JSON, answered by {"done": id}), and says on stdout whatever reaches it.

/** What a canary saw. */
export interface Sighting {
  readonly asked?: { readonly name: string; readonly type: string };
  /** A connection to `address`. */
  readonly connected?: { readonly address: string; readonly port: number };
  readonly request?: {
    readonly host: string;
    readonly method: string;
    readonly url: string;
    readonly headers: readonly string[];
    readonly secure: boolean;
  };
  /** The request's body has come as a whole. */
  readonly complete?: { readonly url: string; readonly bytes: number };
  /** Bytes of an answer that could be handed over before it was at its end or left. */
  readonly served?: number;
  /** The number of an order that has been taken. */
  readonly done?: number;
  readonly ready?: boolean;
}

/** What to answer from now on; what is left out is as the fixtures say. */
export interface CanaryOrders {
  readonly names?: Readonly<Record<string, NameAnswer>>;
  /** Base64: the next connections of origins are answered with these bytes, whatever they ask. */
  readonly respond?: string;
  /** Milliseconds between the bytes of `respond`, behind so many that come at once. */
  readonly dripMs?: number;
  readonly dripFrom?: number;
  /** The injected header comes back: in two pieces, or in these encodings. */
  readonly echo?: 'split' | 'encoded' | 'head';
  /** Every answer has so many bytes. */
  readonly gush?: number;
  /** The status of the first request from now on. */
  readonly firstStatus?: number;
  /** The status of the token endpoint; 200, with a token, unless told. */
  readonly tokenStatus?: number;
  /** Files of another certificate, and its key. */
  readonly certificate?: readonly [certificate: string, key: string];
}

const [certificateFile = '', keyFile = '', table = '{}', portsText = '[]'] = process.argv.slice(2);
const fixed: Record<string, string[]> = JSON.parse(table);
const ports: number[] = JSON.parse(portsText);
const DNS_PORT = 5353;
const TOKENS = 'tokens.upstream.test';

let orders: CanaryOrders = {};
let firstStatus: number | undefined;

const say = (what: Sighting): void => void process.stdout.write(`${JSON.stringify(what)}\n`);
const contextOf = ([certificate, key]: readonly [string, string]) =>
  createSecureContext({ cert: readFileSync(certificate), key: readFileSync(key) });
const usual = contextOf([certificateFile, keyFile]);
let context = usual;

/** A name of the fixtures, or the nearest `*.` above it. */
function addressesOf(name: string): string[] | undefined {
  const wild = Object.keys(fixed).find(
    (key) => key.startsWith('*.') && name.endsWith(key.slice(1)),
  );
  return fixed[name] ?? (wild === undefined ? undefined : fixed[wild]);
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const { method = '', url = '', rawHeaders, headers } = request;
  const secure = request.socket instanceof TLSSocket;
  say({ request: { host: headers.host ?? '', method, url, headers: rawHeaders, secure } });
  let bytes = 0;
  request.on('data', (chunk: Buffer) => (bytes += chunk.length));
  request.on('error', () => {});
  request.on('end', () => {
    say({ complete: { url, bytes } });
    if (headers.host === TOKENS) return giveToken(response, orders.tokenStatus ?? 200);
    const injected = headers.authorization ?? '';
    const marker = isMarker(request.socket);
    const status = (marker ? undefined : firstStatus) ?? 200;
    if (!marker) firstStatus = undefined;
    if (!marker && orders.gush !== undefined) return gush(response, orders.gush);
    const echo = marker ? undefined : orders.echo;
    if (echo === 'split') return echoSplit(response, injected);
    const body = echo === 'encoded' ? encodings(injected) : 'canary\n';
    response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' });
    response.end(body);
  });
}

/** As a token endpoint does (RFC 6749, 5.1); the token is soon asked for again. */
function giveToken(response: ServerResponse, status: number): void {
  const token = { access_token: 'canary-token', token_type: 'Bearer', expires_in: 1 };
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
  response.end(JSON.stringify(status === 200 ? token : { error: 'temporarily_unavailable' }));
}

function echoSplit(response: ServerResponse, text: string): void {
  const middle = Math.ceil(text.length / 2);
  response.writeHead(200, { 'content-type': 'text/plain', connection: 'close' });
  response.write(text.slice(0, middle));
  setTimeout(() => response.end(text.slice(middle)), 50);
}

/** Hands over bytes as fast as they are taken. */
function gush(response: ServerResponse, total: number): void {
  const chunk = Buffer.alloc(65_536, 'a');
  let served = 0;
  const more = (): void => {
    while (served < total) {
      served += chunk.length;
      if (!response.write(chunk)) return;
    }
    response.end();
  };
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': total });
  response.on('drain', more).once('close', () => say({ served }));
  more();
}

/** What is behind the scheme, in the spellings that a proxy could miss. */
function encodings(header: string): string {
  const bytes = Buffer.from(header.replace(/^\S+ /, ''));
  return [
    bytes.toString('base64'),
    bytes.toString('hex'),
    bytes.toString('base64url'),
    encodeURIComponent(bytes.toString()),
  ].join('\n');
}

const http = createServer(answer).on('clientError', (_error, socket) => socket.destroy());

function connected(socket: Socket): void {
  say({ connected: { address: socket.localAddress ?? '', port: socket.localPort ?? 0 } });
  socket.on('error', () => {});
  if (socket.localPort !== 443) return speak(socket);
  const secure = new TLSSocket(socket, { isServer: true, secureContext: context });
  secure.on('error', () => {});
  secure.once('secure', () => speak(secure));
}

/** The harness's own request is answered well, whatever was ordered. */
function isMarker(socket: Socket): boolean {
  return socket.localAddress?.endsWith('203.0.113.99') === true;
}

function speak(socket: Socket): void {
  const { respond, echo, dripMs, dripFrom = 0 } = orders;
  if (isMarker(socket) || (respond === undefined && echo !== 'head')) {
    http.emit('connection', socket);
    return;
  }
  socket.once('data', (head) => {
    const text = head.toString('latin1');
    const [method = '', url = ''] = text.split(' ');
    const fields = text
      .split('\r\n')
      .slice(1)
      .flatMap((line) => line.split(/: ?/, 2));
    say({
      request: {
        host: /\r\nhost: ([^\r]*)/i.exec(text)?.[1] ?? '',
        method,
        url,
        headers: fields,
        secure: socket instanceof TLSSocket,
      },
    });
    const secret = (/\r\nauthorization: \S+ ([^\r]*)/i.exec(text)?.[1] ?? '').trim();
    const bytes = Buffer.from(
      (respond === undefined ? Buffer.alloc(0) : Buffer.from(respond, 'base64'))
        .toString('latin1')
        .replaceAll('{secret}', secret),
      'latin1',
    );
    if (dripMs === undefined) socket.end(bytes);
    else drip(socket, bytes, dripFrom, dripMs);
  });
}

function drip(socket: Socket, bytes: Buffer, from: number, everyMs: number): void {
  let at = from;
  socket.write(bytes.subarray(0, from));
  const timer = setInterval(() => {
    if (at < bytes.length) socket.write(bytes.subarray(at, (at += 1)));
    else socket.end();
  }, everyMs);
  socket.once('close', () => clearInterval(timer));
}

const dns = await startDns(DNS_PORT, addressesOf, (name, type) => say({ asked: { name, type } }));
for (const port of ports)
  await new Promise<void>(
    (resolve) => void createTcpServer(connected).listen(port, '::', () => resolve()),
  );
createInterface({ input: process.stdin }).on('line', (line) => {
  const order: CanaryOrders & { id: number } = JSON.parse(line);
  orders = order;
  ({ firstStatus } = order);
  context = order.certificate ? contextOf(order.certificate) : usual;
  dns.clear();
  for (const [name, one] of Object.entries(order.names ?? {})) dns.set(name, one);
  say({ done: order.id });
});
process.stdin.on('end', () => process.exit(0));
say({ ready: true });
