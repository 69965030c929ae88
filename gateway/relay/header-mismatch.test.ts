import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { startGateway, startHttp } from '../testing.ts';

const MODERN = '2026-07-28';
const meta = (version: string) => ({
  _meta: { 'io.modelcontextprotocol/protocolVersion': version },
});
const call = (version: string) => ({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'evil', uri: 'good', ...meta(version) },
});
const AS_IT_IS = {
  'mcp-protocol-version': MODERN,
  'mcp-method': 'tools/call',
  'mcp-name': 'evil',
};

/** Names and values in turn, as they go out. */
const LIES: Readonly<Record<string, readonly [unknown, readonly string[]]>> = {
  'another parameter as the name': [call(MODERN), flat({ ...AS_IT_IS, 'mcp-name': 'good' })],
  'another version': [call('2025-11-25'), flat(AS_IT_IS)],
  'no method': [call(MODERN), ['mcp-protocol-version', MODERN, 'mcp-name', 'evil']],
  'no name': [call(MODERN), ['mcp-protocol-version', MODERN, 'mcp-method', 'tools/call']],
  'no version': [call(MODERN), ['mcp-method', 'tools/list', 'mcp-name', 'good']],
  'a lie in the legacy era': [
    { ...call(MODERN), params: { name: 'evil' } },
    ['mcp-method', 'tools/call', 'mcp-name', 'good'],
  ],
  'a batch': [[call(MODERN), call(MODERN)], flat(AS_IT_IS)],
  'two versions': [call(MODERN), [...flat(AS_IT_IS), 'MCP-Protocol-Version', '2025-11-25']],
};

test('what headers and body say differently is refused, and no server hears of it', async (t) => {
  let heard = 0;
  const server = await startHttp(t, (asked, response) => {
    heard += 1;
    asked.resume();
    response.end('{}');
  });
  const gateway = await startGateway(t, [server]);
  const send = async (body: unknown, headers: readonly string[]) => {
    const sent = request(`${gateway.origin}/mcp`, {
      method: 'POST',
      headers: [
        ...flat({ host: new URL(gateway.origin).host, authorization: gateway.authorization }),
        ...headers,
      ],
    });
    sent.end(JSON.stringify(body));
    const [response]: IncomingMessage[] = await once(sent, 'response');
    assert.ok(response);
    return [response.statusCode, await text(response)] as const;
  };
  for (const [why, [body, headers]] of Object.entries(LIES)) {
    const [status, said] = await send(body, headers);
    assert.equal(status, 400, why);
    const { code } = JSON.parse(said).error;
    assert.equal(code, why === 'a batch' ? -32_600 : -32_020, why);
  }
  assert.equal(heard, 0);
  assert.equal((await send(call(MODERN), flat(AS_IT_IS)))[0], 200, 'control: the truth passes');
  assert.equal(heard, 1);
});

function flat(headers: Readonly<Record<string, string>>): string[] {
  return Object.entries(headers).flat();
}
