import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { newId } from '#core/ids';
import { startGateway, startHttp } from './testing.ts';

const GIVEN = newId('ids');

/** A gateway before a server that gives an id space and notes with which session it was asked. */
async function start(t: TestContext, serversAre: 'ours' | 'foreign') {
  const seen: (string | string[] | undefined)[] = [];
  const server = () =>
    startHttp(t, (request, response) => {
      if (request.method === 'POST') seen.push(request.headers['mcp-session-id']);
      request.resume();
      response.writeHead(200, { 'content-type': 'application/json', 'mcp-session-id': GIVEN });
      response.end('{}');
    });
  const gateway = await startGateway(t, [await server(), await server()], { serversAre });
  const post = (headers: Record<string, string> = {}) =>
    fetch(`${gateway.origin}/mcp`, {
      method: 'POST',
      headers: { authorization: gateway.authorization, ...headers },
      body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
    });
  return { seen, post };
}

test('the id space of a server of ours passes as it is, in both directions and to any server', async (t) => {
  const { seen, post } = await start(t, 'ours');
  assert.equal((await post()).headers.get('mcp-session-id'), GIVEN);
  const said = newId('ids');
  assert.equal((await post({ 'mcp-session-id': said })).status, 200);
  assert.equal(seen.at(-1), said);
  const modern = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'ping' };
  assert.equal((await post({ 'mcp-session-id': said, ...modern })).status, 200);
  assert.equal(seen.at(-1), undefined, 'there are no sessions since 2026-07-28');
  assert.equal((await post({ 'mcp-session-id': `${said}x` })).status, 404, 'no other id does');
});

test('what a foreign server gives is a session, whatever it looks like: control', async (t) => {
  const { seen, post } = await start(t, 'foreign');
  const sealed = (await post()).headers.get('mcp-session-id') ?? '';
  assert.match(sealed, /^o1\./);
  assert.equal((await post({ 'mcp-session-id': newId('ids') })).status, 404);
  assert.equal((await post({ 'mcp-session-id': sealed })).status, 200);
  assert.equal(seen.at(-1), GIVEN);
});
