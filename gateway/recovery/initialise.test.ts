import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectUpstream } from '../relay/upstream.ts';
import { startHttp } from '../testing.ts';
import { endAt, initialiseAt } from './initialise.ts';

test('a session is begun and ended again at the URL of its server, with the query', async (t) => {
  const asked: string[] = [];
  const server = await startHttp(t, (request, response) => {
    request.resume();
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(200, { 'mcp-session-id': 'theirs' }).end('{}');
  });
  const place = { url: new URL('/mcp?key=v&x#y', server), weight: 1, draining: false };
  const upstream = connectUpstream(place, '0');
  t.after(() => upstream.pool.destroy());
  const client = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: {} };
  const id = await initialiseAt(upstream, client, { logLevel: 'debug', subscriptions: ['a'] });
  assert.equal(id, 'theirs');
  await endAt(upstream, 'theirs');
  const begun = Array.from({ length: 4 }, () => 'POST /mcp?key=v&x');
  assert.deepEqual(asked, [...begun, 'DELETE /mcp?key=v&x']);
});
