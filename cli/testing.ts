import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { formatAddress, parseAddress } from '#core/address';
import { closeServer, listen } from '#core/http';

export interface Asked {
  readonly id?: number;
  readonly method?: string;
  readonly params?: object;
  readonly result?: unknown;
}
/** `message` and the `body` that it stands in are empty for what is not a POST. */
export type Answering = (
  message: Asked,
  request: IncomingMessage,
  response: ServerResponse,
  body: string,
) => void;

/** A server that plays the gateway: it answers each POSTed message as told. */
export async function playGateway(t: TestContext, answer: Answering): Promise<string> {
  const server = createServer((request, response) => {
    if (request.method !== 'POST') answer({}, request, response, '');
    else
      void text(request).then((body) => {
        answer(Object(JSON.parse(body)), request, response, body);
      });
  });
  const address = await listen(server, parseAddress('127.0.0.1:0'));
  t.after(() => closeServer(server));
  return `http://${formatAddress(address)}/mcp`;
}

export const ask = (id: number, method = 'ping', params?: object) => ({
  jsonrpc: '2.0',
  id,
  method,
  params,
});
