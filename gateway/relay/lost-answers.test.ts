import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import type { GatewayConfig } from '../config.ts';
import { startGateway, startHttp } from '../testing.ts';

// A server dies in the middle of an answer, or before it.

const EVENTS = { 'content-type': 'text/event-stream' };
const JSON_TYPE = { 'content-type': 'application/json' };
const RESULT = JSON.stringify({ jsonrpc: '2.0', id: 7, result: { content: [] } }, undefined, 2);

type Answer = (response: ServerResponse) => void;

/** Begins a stream of events with `text`, and dies. */
const dies =
  (begun: string, headers: Record<string, string> = EVENTS): Answer =>
  (response) => {
    response.writeHead(200, headers);
    response.flushHeaders();
    if (begun === '') setImmediate(() => response.destroy());
    else response.write(begun, () => response.destroy());
  };

/** A gateway before two servers; each request that is no check gets the next of `answers`. */
async function start(
  t: TestContext,
  answers: readonly Answer[],
  over: Partial<GatewayConfig> = {},
) {
  let requests = 0;
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const body = await text(request);
    if (body.includes('server/discover')) response.end();
    else answers[requests++]?.(response);
  };
  const servers = [await startHttp(t, serve), await startHttp(t, serve)];
  const gateway = await startGateway(t, servers, over);
  const { origin, authorization } = gateway;
  const call = () =>
    fetch(`${origin}/mcp`, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"compute","arguments":{}}}',
    });
  const outcomes = async (outcome: string) =>
    (await (await fetch(`${origin}/metrics`)).text())
      .split('\n')
      .filter(
        (line) => line.startsWith('outrider_tool_calls_total') && line.includes(`"${outcome}"`),
      )
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  return { call, outcomes, requests: () => requests };
}

/** The message of each event. */
const messagesOf = (
  stream: string,
): { id?: unknown; error?: { data: object }; result?: unknown }[] =>
  [...stream.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => JSON.parse(data));

const LOST = { code: 'UPSTREAM_LOST', retryable: true, executed: 'unknown' };
const PROGRESS = `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress' })}\n\n`;

for (const begun of ['', ': ping\n\n', PROGRESS])
  test(`a call whose server dies after ${JSON.stringify(begun)} ends with a typed error, as an error`, async (t) => {
    const { call, outcomes, requests } = await start(t, [dies(begun)]);
    const response = await call();
    assert.equal(response.status, 200);
    const last = messagesOf(await response.text()).at(-1);
    assert.equal(last?.id, 7);
    assert.deepEqual(last?.error?.data, LOST);
    assert.equal(requests(), 1);
    assert.equal(await outcomes('error'), 1);
    assert.equal(await outcomes('cancelled'), 0);
  });

test('a call that is lost before its answer is refused by its own id, and may be tried again', async (t) => {
  const { call, requests } = await start(t, [(response) => response.destroy()]);
  const response = await call();
  assert.equal(response.status, 502);
  const { id, error } = Object(await response.json());
  assert.deepEqual([id, error.data], [7, LOST]);
  assert.equal(requests(), 1);
});

const CUT = [
  ['a stream with the id of an event: its client asks for the rest', dies('id: 1\ndata:\n\n')],
  ['JSON', dies('{"jsonrpc"', JSON_TYPE)],
  ['a compressed stream', dies('x', { ...EVENTS, 'content-encoding': 'gzip' })],
] as const;
for (const [what, answer] of CUT)
  test(`cut off where the server dies, and an error: ${what}`, async (t) => {
    const { call, outcomes } = await start(t, [answer]);
    await assert.rejects(async () => (await call()).text());
    assert.equal(await outcomes('error'), 1);
  });

const SECOND: readonly (readonly [string, Answer])[] = [
  ['JSON', (response) => response.writeHead(200, JSON_TYPE).end(RESULT)],
  [
    'events',
    (response) => response.writeHead(200, EVENTS).end(`data: ${RESULT.replaceAll('\n', '')}\n\n`),
  ],
];
for (const [type, second] of SECOND)
  for (const begun of ['', ': ping\n\n', ': ping\n: cut in the midd'])
    test(`a safe call goes on in its stream after ${JSON.stringify(begun)}, answered with ${type}`, async (t) => {
      const { call, outcomes } = await start(t, [dies(begun), second], { safeTools: ['compute'] });
      const messages = messagesOf(await (await call()).text());
      assert.deepEqual(messages, [JSON.parse(RESULT)]);
      assert.equal(await outcomes('ok'), 1);
    });

test('a safe call that is lost before its answer is answered by another server', async (t) => {
  const { call } = await start(
    t,
    [
      (response) => response.destroy(),
      (response) => response.writeHead(200, JSON_TYPE).end(RESULT),
    ],
    { safeTools: ['compute'] },
  );
  assert.equal(await (await call()).text(), RESULT);
});

test('a safe call whose client has had an event is not sent again', async (t) => {
  const { call, requests } = await start(t, [dies(PROGRESS)], { safeTools: ['compute'] });
  assert.deepEqual(messagesOf(await (await call()).text()).at(-1)?.error?.data, LOST);
  assert.equal(requests(), 1);
});

const NO_ANSWERS: readonly (readonly [string, Answer])[] = [
  ['dies as well', dies(': b\n\n')],
  ['refuses', (response) => response.writeHead(404, JSON_TYPE).end(RESULT)],
  ['says nothing', (response) => response.writeHead(202).end()],
];
for (const [what, second] of NO_ANSWERS)
  test(`a safe call is lost where the second server ${what}`, async (t) => {
    const { call, requests } = await start(t, [dies(': a\n\n'), second], {
      safeTools: ['compute'],
    });
    const messages = messagesOf(await (await call()).text());
    assert.deepEqual(
      messages.map(({ error }) => error?.data),
      [LOST],
    );
    assert.equal(requests(), 2);
  });
