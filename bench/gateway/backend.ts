import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { formatAddress } from '#core/address';
import { listen } from '#core/http';
import { reply } from './replies.ts';

// `node backend.ts PORT`: an MCP server with sessions that answers as fast as a server can, so that what is before it is measured.

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method === 'GET') {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    return;
  }
  const message = request.method === 'POST' ? Object(JSON.parse(await textOf(request))) : {};
  const answer = reply(message);
  if (answer === undefined) {
    response.writeHead(202).end();
    return;
  }
  const body = JSON.stringify(answer);
  response.writeHead('error' in answer ? 404 : 200, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...(message.method === 'initialize' && { 'mcp-session-id': randomUUID() }),
  });
  response.end(body);
}

/** By its events, which cost less than its iterator. */
function textOf(request: IncomingMessage): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    request.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    request.on('end', () => resolve(text));
  });
}

const server = createServer((request, response) => {
  serve(request, response).catch(() => response.destroy());
});
const port = Number(process.argv[2]);
const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port });
process.stdout.write(`${JSON.stringify({ address: formatAddress(address) })}\n`);
