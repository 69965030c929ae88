import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { verifyAudit } from '#core/audit-verify';
import type { GatewayConfig } from './config.ts';
import { startGateway, startHttp } from './testing.ts';

const CALL = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}';

async function start(t: TestContext, over: Partial<GatewayConfig> = {}) {
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.end('{}');
  });
  const gateway = await startGateway(t, [server], { serversAre: 'foreign', ...over });
  const { authorization } = gateway;
  const call = async (headers: Record<string, string> = {}, method = 'POST', body = CALL) => {
    const response = await fetch(`${gateway.origin}/mcp`, {
      method,
      headers: { authorization, ...headers },
      ...(method === 'POST' && { body }),
    });
    await response.text();
    return response.status;
  };
  const records = async () => {
    await gateway.stop();
    const text = readFileSync(join(gateway.root, 'audit/gateway.jsonl'), 'utf8');
    const lines = text.trimEnd().split('\n');
    assert.deepEqual((await verifyAudit(lines)).findings, []);
    return { text, calls: lines.map((line) => JSON.parse(line)).filter(isCall) };
  };
  return { call, records };
}

const isCall = ({ event }: { event?: unknown }) => event === 'call';

test('L4: what is refused before it is read is one record each, with who it was and why, and no token', async (t) => {
  const { call, records } = await start(t, { principalRate: 6, maxBody: 100 });
  assert.equal(await call({ 'x-request-id': 'req-401', authorization: 'Bearer hunter2' }), 401);
  assert.equal(await call({ 'x-request-id': 'req-403', origin: 'https://evil.example' }), 403);
  assert.equal(await call({ 'x-request-id': 'req-404', 'mcp-session-id': 'o1.forged' }), 404);
  assert.equal(await call({ 'x-request-id': 'req-gone', 'mcp-session-id': 'o1.x' }, 'DELETE'), 404);
  assert.equal(await call({ 'x-request-id': 'req-413' }, 'POST', 'x'.repeat(101)), 413);
  assert.equal(await call({ 'x-request-id': 'req-400' }, 'POST', '{"id":1,"id":1}'), 400);
  assert.equal(await call({ 'x-request-id': 'req-bom' }, 'POST', `\ufeff${CALL}`), 400);
  assert.equal(await call({ 'x-request-id': 'req-200' }), 200);
  assert.equal(await call({ 'x-request-id': 'req-429' }), 429);
  const { text, calls } = await records();
  assert.deepEqual(
    calls.map((one) => [
      one.requestId,
      one.code,
      one.verdict,
      one.status,
      one.subject,
      one.tool,
      one.method,
    ]),
    [
      ['req-401', 'UNAUTHENTICATED', 'deny', 401, undefined, undefined, 'POST'],
      ['req-403', 'ORIGIN_NOT_ALLOWED', 'deny', 403, undefined, undefined, 'POST'],
      ['req-404', 'SESSION_NOT_FOUND', 'deny', 404, 'local', undefined, 'POST'],
      ['req-gone', 'SESSION_NOT_FOUND', 'deny', 404, 'local', undefined, 'DELETE'],
      ['req-413', 'BODY_TOO_LARGE', 'deny', 413, 'local', undefined, 'POST'],
      ['req-400', 'INVALID_REQUEST', 'deny', 400, 'local', undefined, 'POST'],
      ['req-bom', 'INVALID_REQUEST', 'deny', 400, 'local', undefined, 'POST'],
      ['req-200', undefined, 'allow', 200, 'local', 'x', undefined],
      ['req-429', 'RATE_LIMITED', 'limit', 429, 'local', undefined, 'POST'],
    ],
  );
  assert.ok(!text.includes('hunter2') && !text.includes('forged'));
});

test('a flood of strangers is a number in the audit, and hides no refusal of a known caller', async (t) => {
  const { call, records } = await start(t);
  const stranger = () => call({ authorization: 'Bearer wrong' });
  for (let round = 0; round < 30; round++)
    assert.deepEqual(
      new Set(await Promise.all(Array.from({ length: 20 }, stranger))),
      new Set([401]),
    );
  assert.equal(await call({ 'mcp-session-id': 'o1.forged' }), 404);
  const { calls } = await records();
  const alone = calls.filter(({ code }) => code === 'UNAUTHENTICATED');
  const floods = calls.filter(({ reason }) => reason === 'refusal_flood');
  const counted = floods.reduce((sum, { detail }) => sum + Number.parseInt(detail, 10), 0);
  assert.equal(alone.length + counted, 600, 'none is lost');
  // One a second may have been recorded besides, on a slow machine.
  assert.ok(alone.length >= 100 && counted > 0, `${alone.length} alone, ${counted} counted`);
  assert.match(floods[0].detail, /UNAUTHENTICATED \d+/);
  assert.equal(calls.filter(({ subject }) => subject === 'local').length, 1);
});
