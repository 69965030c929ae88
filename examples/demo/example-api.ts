import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { answerJson, closeServer, listen } from '#core/http';
import { type Source, secretFile } from './source.ts';

const ITEMS = [
  { name: 'lantern', stock: 12 },
  { name: 'rope', stock: 340 },
  { name: 'saddle', stock: 3 },
];

/** A small HTTP API that answers nobody without its bearer token. Used where there is no Prometheus. */
export async function startExampleApi(port: number, state: string): Promise<Source> {
  const token = secretFile(state, 'example-api-token', () => randomBytes(24).toString('base64url'));
  const expected = Buffer.from(`Bearer ${token}`);
  const server = createServer((request, response) => {
    const given = Buffer.from(request.headers.authorization ?? '');
    if (given.length !== expected.length || !timingSafeEqual(given, expected))
      answerJson(response, 401, { error: 'a token is needed' });
    else if (request.url === '/items') answerJson(response, 200, { items: ITEMS });
    else answerJson(response, 404, { error: 'not found' });
  });
  await listen(server, { kind: 'tcp', host: '127.0.0.1', port });
  return {
    name: `the example API of this demo on 127.0.0.1:${port}`,
    program: 'query_example.py',
    rule: 'example-read',
    asked: `http://127.0.0.1:${port}/items`,
    secrets: [token],
    ready: async () => 'it has 3 items',
    stop: () => closeServer(server),
  };
}
