import { randomUUID } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { formatAddress } from '#core/address';
import { listen } from '#core/http';
import { reply } from './replies.ts';

// `node backend.ts PORT`: an MCP server with sessions that answers as fast as a server can, so that what is before it is measured. It reads
// no more of HTTP than gateways send: whole requests with a length or in one chunk.

const HEAD_END = '\r\n\r\n';

const server = createServer({ noDelay: true }, (socket) => {
  let waiting = '';
  socket.setEncoding('latin1').on('error', () => {});
  socket.on('data', (text: string) => {
    waiting = waiting === '' ? text : waiting + text;
    for (let size = sizeOf(waiting); size !== undefined; size = sizeOf(waiting)) {
      answer(socket, waiting.slice(0, size));
      waiting = waiting.slice(size);
    }
  });
});

/** Of the request at the start, where it is there as a whole. */
function sizeOf(text: string): number | undefined {
  const head = text.indexOf(HEAD_END);
  if (head < 0) return undefined;
  const length = /\r\ncontent-length: *(\d+)\r\n/i.exec(text)?.[1];
  const isChunked = length === undefined && /\r\ntransfer-encoding: *chunked\r\n/i.test(text);
  const last = isChunked ? text.indexOf('\r\n0\r\n\r\n', head) : 0;
  const size = isChunked ? last + '\r\n0\r\n\r\n'.length : head + 4 + Number(length ?? 0);
  return last < 0 || text.length < size ? undefined : size;
}

function answer(socket: Socket, request: string): void {
  if (request.startsWith('GET')) {
    socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n');
    return;
  }
  const body = request.slice(request.indexOf('{'), request.lastIndexOf('}') + 1);
  const message = body.startsWith('{') ? Object(JSON.parse(body)) : {};
  const answered = reply(message);
  if (!request.startsWith('POST') || answered === undefined) {
    socket.write('HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n');
    return;
  }
  const text = JSON.stringify(answered);
  const status = 'error' in answered ? '404 Not Found' : '200 OK';
  const session = message.method === 'initialize' ? `mcp-session-id: ${randomUUID()}\r\n` : '';
  socket.write(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n${session}\r\n${text}`,
    'latin1',
  );
}

const port = Number(process.argv[2]);
const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port });
process.stdout.write(`${JSON.stringify({ address: formatAddress(address) })}\n`);
