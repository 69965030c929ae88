import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { formatAddress, parseAddress } from '#core/address';
import { loadConfig } from '#core/config';
import { createKeySet, keySetPaths, readSigningKey } from '#core/keys';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { LOCAL_PRINCIPAL } from '#core/principal';
import {
  AssertionSigner,
  ExecutionSigner,
  generateSigningKey,
  type SigningKey,
} from '#core/tokens';
import { serverSpec } from './config.ts';
import { createMcpServer } from './server.ts';

/** A server without a runner, and an assertion that it accepts. */
async function start(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-srv-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  createKeySet(join(root, 'keys'));
  const keys = keySetPaths(join(root, 'keys'));
  const spec = serverSpec({ runtime: root, state: root });
  const config = {
    ...loadConfig('server', spec, { argv: ['--max-body', '2KiB'], env: {} }),
    listen: parseAddress('127.0.0.1:0'),
    drainTimeout: 50,
  };
  const server = createMcpServer(config, { log: silentLogger, metrics: new Metrics('server') });
  const origin = `http://${formatAddress(await server.start())}`;
  t.after(() => server.stop());
  const signer = new AssertionSigner(readSigningKey(keys.gateway));
  const assertion = await signer.sign(LOCAL_PRINCIPAL);
  const post = (body: string, headers: Record<string, string> = {}) =>
    fetch(`${origin}/mcp`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${assertion}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...headers,
      },
      body,
    });
  return { origin, post, keys, authorization: `Bearer ${assertion}` };
}

/** The one JSON-RPC message of an answer, be it JSON or an event stream. */
async function messageOf(
  response: Response,
): Promise<{ error?: { code: number }; result?: object }> {
  const body = await response.text();
  const data = /^data: (\{.*\})$/m.exec(body)?.[1];
  return JSON.parse(data ?? body);
}

const CLIENT = { name: 'test', version: '1' };

const call = (method: string, params?: object) =>
  JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });

const ERRORS = [
  ['malformed JSON', '{"jsonrpc": ', -32_700],
  ['an empty body', '', -32_700],
  ['an unknown method', call('tools/destroy'), -32_601],
  ['parameters of the wrong kind', call('tools/call', { name: 7 }), -32_602],
  [
    'arguments that are no mapping',
    call('tools/call', { name: 'run_shell', arguments: [1] }),
    -32_602,
  ],
  ['an initialize that says nothing', call('initialize', {}), -32_602],
  ['an initialize without parameters', call('initialize'), -32_602],
  ['a resource without a URI', call('resources/read', {}), -32_602],
  ['a cursor that is no text', call('tools/list', { cursor: 5 }), -32_602],
  ['an unknown tool', call('tools/call', { name: 'execute_perl', arguments: {} }), -32_602],
] as const;

test('A9: what is wrong with parameters is said in words, in both eras', async (t) => {
  const { post } = await start(t);
  const said = async (body: string, headers: Record<string, string> = {}) =>
    Object(await messageOf(await post(body, headers))).error;
  assert.deepEqual(await said(call('resources/read', { uri: 5 })), {
    code: -32_602,
    message: 'params.uri: Invalid input: expected string, received number',
  });
  const modern = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': {},
    'io.modelcontextprotocol/clientInfo': CLIENT,
  };
  const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/list' };
  assert.deepEqual(await said(call('tools/list', { cursor: 5, _meta: modern }), headers), {
    code: -32_602,
    message: 'params.cursor: Invalid input: expected string, received number',
  });
  assert.equal(await said(call('tools/list', { _meta: modern }), headers), undefined, 'control');
});

for (const [what, body, code] of ERRORS)
  test(`${what} is ${code}`, async (t) => {
    const { post } = await start(t);
    assert.equal((await messageOf(await post(body))).error?.code, code);
    const control = await messageOf(await post(call('tools/list')));
    assert.ok(control.result);
  });

const ARGUMENTS = [
  ['no code', {}],
  ['an empty program', { code: '' }],
  ['code that is no text', { code: 7 }],
  ['a time limit of 0', { code: 'x', timeout: 0 }],
  ['a time limit above ten minutes', { code: 'x', timeout: 601 }],
  ['a time limit in parts of seconds', { code: 'x', timeout: 1.5 }],
  ['a time limit by another name', { code: 'x', timeout_seconds: 1 }],
  ['a session with a slash', { code: 'x', session_id: '../x' }],
  ['a session of 65 letters', { code: 'x', session_id: 'a'.repeat(65) }],
] as const;

for (const [what, args] of ARGUMENTS)
  test(`${what} is refused before a runner is asked`, async (t) => {
    const { post } = await start(t);
    const { result } = await messageOf(
      await post(call('tools/call', { name: 'execute_python', arguments: args })),
    );
    // Arguments that do not fit are for the model to mend: an answer, no protocol error (MCP, tools, error handling).
    const { isError, content } = Object(result);
    assert.equal(isError, true);
    // No runner is there: had it been asked, its error would be the answer.
    assert.match(content[0].text, /^Input validation error/);
  });

test('a tool that takes no other argument says so in its schema, and names one that it does not know', async (t) => {
  const { post } = await start(t);
  const { tools } = Object((await messageOf(await post(call('tools/list')))).result);
  for (const { name, inputSchema } of tools)
    assert.equal(inputSchema.additionalProperties, false, name);
  const good = {
    run_js: { code: 'x' },
    run_shell: { code: 'x' },
    manage_session: { action: 'stop' },
  };
  for (const [name, fitting] of Object.entries(good)) {
    const body = call('tools/call', { name, arguments: { ...fitting, sesion_id: 'a' } });
    const [said] = Object((await messageOf(await post(body))).result).content;
    assert.match(said.text, /^Input validation error.*sesion_id/, name);
  }
});

test('with good arguments the runner is asked, and that it is not there is an answer', async (t) => {
  const { post } = await start(t);
  const args = { code: 'x', timeout: 600, session_id: 'a.b_c-1' };
  const { result } = await messageOf(
    await post(call('tools/call', { name: 'execute_python', arguments: args })),
  );
  const { _meta: meta, isError } = Object(result);
  assert.equal(isError, true);
  assert.equal(meta['outrider/error'].code, 'UPSTREAM_UNREACHABLE');
});

test('a notification gets 202 and no body', async (t) => {
  const { post } = await start(t);
  const response = await post(
    JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }),
  );
  assert.equal(response.status, 202);
  assert.equal(await response.text(), '');
});

test('A11: what can be the initialize of the session era is told a space for its ids; what has one already, or a version without sessions, is not', async (t) => {
  const { post } = await start(t);
  const initialize = call('initialize', {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: CLIENT,
  });
  const told = async (headers: Record<string, string>, body = call('ping')) =>
    (await post(body, headers)).headers.get('mcp-session-id');
  const idSpace = await told({}, initialize);
  assert.match(idSpace ?? '', /^ids-[a-z2-7]{26}$/);
  assert.notEqual(await told({}, initialize), idSpace);
  assert.equal(await told({ 'mcp-session-id': idSpace ?? '' }), null);
  const version = (said: string) => told({ 'mcp-protocol-version': said }, initialize);
  assert.match((await version('2025-11-25')) ?? '', /^ids-/, 'some clients say it at once');
  assert.equal(await version('2026-07-28'), null);
});

test('a client is promised news only where it can listen: in the session era, GET is 405', async (t) => {
  const { origin, post, authorization } = await start(t);
  const promised = async (body: string, headers: Record<string, string> = {}) => {
    const { result } = await messageOf(await post(body, headers));
    const { tools, resources } = Object(result).capabilities;
    return { tools, resources };
  };
  const initialize = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: CLIENT };
  assert.deepEqual(await promised(call('initialize', initialize)), {
    tools: { listChanged: false },
    resources: { listChanged: false, subscribe: false },
  });
  assert.equal((await fetch(`${origin}/mcp`, { headers: { authorization } })).status, 405);

  const meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': CLIENT,
    'io.modelcontextprotocol/clientCapabilities': {},
  };
  const modern = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'server/discover' };
  assert.deepEqual(
    await promised(call('server/discover', { _meta: meta }), modern),
    { tools: { listChanged: true }, resources: { listChanged: true, subscribe: true } },
    'control: one that can listen',
  );
});

test('a body over the limit is 413, one below it is not', async (t) => {
  const { post } = await start(t);
  assert.equal((await post(call('ping', { _meta: { x: 'x'.repeat(2_048) } }))).status, 413);
  assert.equal((await post(call('ping', { _meta: { x: 'x'.repeat(1_024) } }))).status, 200);
});

test('only an assertion for the mesh by a known gateway opens the door', async (t) => {
  const { post, keys } = await start(t);
  const sign = (key: SigningKey) => new AssertionSigner(key).sign(LOCAL_PRINCIPAL);
  const forged = await sign(generateSigningKey('outrider:gateway'));
  const unknown = await sign(generateSigningKey('outrider:other'));
  const { jwt: execution } = await new ExecutionSigner(readSigningKey(keys.runner)).sign({
    sandboxId: 's',
    execId: 'e',
    role: 'r',
    policyDigest: 'd',
    proof: 'p',
    startedAt: 0,
    requestId: 'q',
  });
  for (const authorization of [
    '',
    'Basic eA==',
    `Bearer ${forged}`,
    `Bearer ${unknown}`,
    `Bearer ${execution}`,
  ]) {
    const response = await post(call('ping'), { authorization });
    assert.equal(response.status, 401, authorization.slice(0, 20));
    assert.match(response.headers.get('www-authenticate') ?? '', /^Bearer /);
  }
  assert.equal((await post(call('ping'))).status, 200, 'control');
});

test('L1: probes are anonymous, and a server without its runner is alive and not ready', async (t) => {
  const { origin } = await start(t);
  assert.equal((await fetch(`${origin}/livez`)).status, 200);
  assert.equal((await fetch(`${origin}/metrics`)).status, 200);
  const response = await fetch(`${origin}/readyz`);
  assert.equal(response.status, 503);
  assert.deepEqual(Object.keys(Object(await response.json()).problems), ['runner']);
});

test('GET and DELETE, which sessions would need, are 405; another path is 404', async (t) => {
  const { origin, authorization } = await start(t);
  const headers = { authorization };
  for (const method of ['GET', 'DELETE']) {
    const response = await fetch(`${origin}/mcp`, { method, headers });
    assert.equal(response.status, 405);
  }
  assert.equal((await fetch(`${origin}/other`, { headers })).status, 404);
});
