import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { verifyAudit } from '#core/audit-verify';
import { silentLogger } from '#core/log';
import type { GatewayConfig } from '../config.ts';
import { startGateway, startHttp, temporaryDirectory } from '../testing.ts';

const TOOLS = ['alpha', 'beta', 'execute_python', 'gamma'];

/** A server with tools, that notes what it is asked and answers as an event stream or as JSON. */
async function startToolServer(t: TestContext, asEvents: boolean) {
  const bodies: string[] = [];
  const url = await startHttp(t, async (request: IncomingMessage, response: ServerResponse) => {
    const body = await text(request);
    bodies.push(body);
    const tools = TOOLS.map((name) => ({ name, inputSchema: { type: 'object' } }));
    const isCall = body.includes('tools/call');
    const result = isCall ? { content: [], isError: body.includes('"fail"') } : { tools };
    const answer = JSON.stringify({ jsonrpc: '2.0', id: 1, result });
    response.setHeader('content-type', asEvents ? 'text/event-stream' : 'application/json');
    response.end(asEvents ? `: hello\n\nid: 1\ndata: ${answer}\n\n` : answer);
  });
  return { url, bodies };
}

function roleFile(directory: string, name: string, tools: string, subject = 'local'): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    join(directory, `${name}.yaml`),
    `apiVersion: outrider/v1
kind: Role
metadata: {name: ${name}, owner: tests, description: What the local principal may call.}
spec:
  members: [{issuer: "outrider:local", subject: ${subject}}]
  ${tools}
  sandbox: {minimumTier: namespaces, timeout: 60s}
`,
  );
}

async function startPoliced(
  t: TestContext,
  roles: Readonly<Record<string, string>>,
  asEvents = false,
  over: Partial<GatewayConfig> = {},
) {
  const policies = join(temporaryDirectory(t), 'policies');
  mkdirSync(policies);
  for (const [name, tools] of Object.entries(roles)) roleFile(policies, name, tools);
  const server = await startToolServer(t, asEvents);
  const gateway = await startGateway(t, [server.url], { policies, ...over });
  const send = (body: unknown, method = 'POST') =>
    fetch(`${gateway.origin}/mcp`, {
      method,
      headers: { authorization: gateway.authorization, 'content-type': 'application/json' },
      ...(method === 'POST'
        ? { body: typeof body === 'string' ? body : JSON.stringify(body) }
        : {}),
    });
  return { ...gateway, ...server, policies, send };
}

const call = (name: unknown, id = 1) => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name, arguments: {} },
});
const LIST = { jsonrpc: '2.0', id: 1, method: 'tools/list' };

const RIGHTS = [
  [{ a: 'tools: any' }, TOOLS, 'any is every tool'],
  [{ a: 'tools: [alpha, gamma]' }, ['alpha', 'gamma'], 'what the Role names'],
  [{ a: 'tools: [alpha]', b: 'tools: [beta]' }, ['alpha', 'beta'], 'what any of its Roles names'],
  [{ a: 'tools: [alpha]', b: 'tools: any' }, TOOLS, 'one of its Roles names any'],
  [{ a: '' }, ['execute_python'], 'a Role that names none has what our server always offers'],
  [{}, [], 'nobody has a Role'],
] as const;

for (const asEvents of [true, false])
  for (const [roles, expected, why] of RIGHTS)
    test(`B7: listed is callable, and the reverse (${asEvents ? 'events' : 'JSON'}): ${why}`, async (t) => {
      const { send, bodies } = await startPoliced(t, roles, asEvents);
      const answer = await (await send(LIST)).text();
      const listed = [...answer.matchAll(/"name":"(\w+)"/g)].map(([, name]) => name);
      assert.deepEqual(listed, expected);
      for (const name of TOOLS) {
        const before = bodies.length;
        const response = await send(call(name));
        const may = listed.includes(name);
        assert.equal(response.status, may ? 200 : 403, name);
        assert.equal(bodies.length - before, may ? 1 : 0, `${name} reached the server`);
        if (!may) assert.equal(Object(await response.json()).error.data.code, 'TOOL_NOT_ALLOWED');
      }
    });

const EVASIONS = [
  [[call('alpha'), call('beta')], 403, 'one of a batch'],
  ['{"method":"tools/call","params":{"name":"alpha","name":"beta"}}', 400, 'a name twice'],
  ['{"Method":"tools/call","params":{"name":"beta"}}', 400, 'another spelling of method'],
  ['\ufeff{"method":"tools/call","params":{"name":"beta"}}', 400, 'no JSON for us'],
  [call(['beta']), 400, 'a name that is no text'],
  [call('beta '), 403, 'a name with a space'],
  [call('Alpha'), 403, 'a name in another case'],
  [[call('alpha'), call('alpha')], 200, 'control'],
] as const;

for (const [body, status, why] of EVASIONS)
  test(`${status} for what hides the tool: ${why}`, async (t) => {
    const { send, bodies } = await startPoliced(t, { a: 'tools: [alpha]' });
    assert.equal((await send(body)).status, status);
    assert.equal(bodies.length, status === 200 ? 1 : 0);
  });

const SOME = 'tools: [beta, {name: alpha, arguments: {database: [sales, web-*], limit: 100}}]';
const WITH = [
  [{ database: 'sales', limit: 100, extra: [1] }, 200, 'control: what the Role asks for'],
  [{ database: 'web-eu', limit: 100 }, 200, 'control: a beginning'],
  [{ database: 'hr', limit: 100 }, 403, 'another value'],
  [{ database: 'sales' }, 403, 'one is not given'],
  [{ database: 'sales', DataBase: 'hr', limit: 100 }, 403, 'in two cases'],
  [undefined, 403, 'none at all'],
] as const;

for (const [given, status, why] of WITH)
  test(`B7: ${status} for arguments of a call: ${why}`, async (t) => {
    const { send, bodies } = await startPoliced(t, { a: SOME });
    const response = await send({ ...call('alpha'), params: { name: 'alpha', arguments: given } });
    assert.equal(response.status, status);
    assert.equal(bodies.length, status === 200 ? 1 : 0);
    if (status === 200) return;
    const { error } = Object(await response.json());
    assert.equal(error.data.code, 'TOOL_NOT_ALLOWED');
  });

test('B7: arguments are looked at in a batch, written twice they are refused, and a Role without them is enough', async (t) => {
  const { send, bodies, policies } = await startPoliced(t, { a: SOME });
  const wrong = { ...call('alpha'), params: { name: 'alpha', arguments: { database: 'hr' } } };
  assert.equal((await send([call('beta'), wrong])).status, 403);
  const twice = '"database":"hr","database":"sales","limit":100';
  const method = '"jsonrpc":"2.0","id":1,"method":"tools/call"';
  const body = `{${method},"params":{"name":"alpha","arguments":{${twice}}}}`;
  assert.equal((await send(body)).status, 400);
  assert.equal(bodies.length, 0);
  const listed = await (await send(LIST)).text();
  assert.deepEqual(listed.match(/"name":"\w+"/g), ['"name":"alpha"', '"name":"beta"']);
  roleFile(policies, 'b', 'tools: [alpha]');
  while ((await send(wrong)).status !== 200);
});

const SHARED = 'Public, max-age=60, s-maxage=600, no-cache="a, b"';
for (const [tools, expected, control] of [
  ['tools: [alpha]', '{"tools":[{"name":"alpha"}],"cacheScope":"private"}', 'private, max-age=60'],
  [
    'tools: [alpha, beta]',
    '{"tools":[{"name":"alpha"},{"name":"beta"}],"cacheScope":"private"}',
    'private, max-age=60',
  ],
  ['tools: any', '{"tools":[{"name":"alpha"},{"name":"beta"}],"cacheScope":"public"}', SHARED],
] as const)
  test(`a list is its caller's alone where rights apply, also where nothing is taken out: ${tools}`, async (t) => {
    const result = { tools: [{ name: 'alpha' }, { name: 'beta' }], cacheScope: 'public' };
    const server = await startHttp(t, (_, response) => {
      response.setHeader('cache-control', SHARED);
      response.end(JSON.stringify({ jsonrpc: '2.0', id: 1, result }));
    });
    const policies = join(temporaryDirectory(t), 'policies');
    roleFile(policies, 'a', tools);
    const { origin, authorization } = await startGateway(t, [server], { policies });
    const response = await fetch(`${origin}/mcp`, {
      method: 'POST',
      headers: { authorization },
      body: JSON.stringify(LIST),
    });
    assert.equal(await response.text(), `{"jsonrpc":"2.0","id":1,"result":${expected}}`);
    assert.equal(response.headers.get('cache-control'), control);
  });

test('a list that comes on a resumed stream is filtered as well', async (t) => {
  const { send } = await startPoliced(t, { a: 'tools: [alpha]' }, true);
  const stream = await (await send('', 'GET')).text();
  assert.match(stream, /^: hello\n\nid: 1\ndata: /);
  assert.deepEqual(stream.match(/"name":"\w+"/g), ['"name":"alpha"']);
});

test('a result of more than 4 MiB comes on a resumed stream, a list of that size does not, and the log says so', async (t) => {
  const long = 'x'.repeat(5 * 2 ** 20);
  const large = [
    { content: [{ type: 'text', text: long }] },
    { tools: [{ name: 'beta', text: long }] },
  ];
  const [result = '', list = ''] = large.map(
    (one) => `data: ${JSON.stringify({ jsonrpc: '2.0', id: 1, result: one })}\n\n`,
  );
  const server = await startHttp(t, ({ headers }, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(headers['last-event-id'] === 'list' ? list : result);
  });
  const policies = join(temporaryDirectory(t), 'policies');
  roleFile(policies, 'a', 'tools: [alpha]');
  const warned: unknown[] = [];
  const warn = (_: string, fields: { code?: unknown } = {}) => void warned.push(fields.code);
  const gateway = await startGateway(t, [server], { policies }, { ...silentLogger, warn });
  const resume = async (id: string) => {
    const headers = { authorization: gateway.authorization, 'last-event-id': id };
    return (await fetch(`${gateway.origin}/mcp`, { headers })).text();
  };
  assert.ok((await resume('result')) === result, 'control');
  assert.deepEqual(warned, []);
  await assert.rejects(resume('list'), TypeError);
  assert.deepEqual(warned, ['UPSTREAM_UNREACHABLE']);
});

test('without policies the servers alone say who may call what', async (t) => {
  const { send, bodies } = await startPoliced(t, {}, false, { policies: undefined });
  assert.equal((await send(call('beta'))).status, 200);
  assert.equal(bodies.length, 1);
});

for (const [policies, roles] of [
  [undefined, {}],
  ['as it is', { a: 'tools: any' }],
  ['as it is', { a: 'tools: [alpha]' }],
] as const)
  test(`a call that names no tool is -32602, ${policies ? `with ${roles.a}` : 'without policies'}`, async (t) => {
    const { send, bodies } = await startPoliced(t, roles, false, policies ? {} : { policies });
    for (const name of [undefined, 7, null, ['alpha']]) {
      const response = await send(call(name, 9));
      assert.equal(response.status, 400, String(name));
      const { id, error } = Object(await response.json());
      assert.deepEqual([id, error.code, error.data.code], [9, -32_602, 'INVALID_REQUEST']);
    }
    assert.equal(bodies.length, 0);
    assert.equal((await send(call('alpha'))).status, 200, 'control');
  });

test('B7: a changed Role is in force within a second', { timeout: 120_000 }, async (t) => {
  const { send, policies } = await startPoliced(t, { a: 'tools: [alpha]' });
  assert.equal((await send(call('beta'))).status, 403);
  roleFile(policies, 'a', 'tools: [beta]');
  while ((await send(call('beta'))).status !== 200);
  assert.equal((await send(call('alpha'))).status, 403);
});

test('L2 L4: each call is one audit record and one measurement, refused ones as well, and no argument is in it', async (t) => {
  const { send, root, origin, stop } = await startPoliced(t, { a: 'tools: [alpha, gamma]' });
  const secret = { ...call('alpha'), params: { name: 'alpha', arguments: { code: 'hunter2' } } };
  await send(secret);
  await send({ ...call('gamma'), params: { name: 'gamma', arguments: { mode: 'fail' } } });
  await send(call('beta'));
  await send(LIST);
  const metrics = await (await fetch(`${origin}/metrics`)).text();
  for (const line of [
    'outrider_tool_calls_total{tool="alpha",outcome="ok",era="legacy",part="gateway"} 1',
    'outrider_tool_calls_total{tool="gamma",outcome="failed",era="legacy",part="gateway"} 1',
    'outrider_tool_calls_total{tool="other",outcome="denied",era="legacy",part="gateway"} 1',
    'outrider_tool_duration_seconds_count{part="gateway",tool="alpha"} 1',
    'outrider_upstream_duration_seconds_count{part="gateway",tool="alpha"} 1',
  ])
    assert.ok(metrics.includes(line), line);
  await stop();
  const lines = readFileSync(join(root, 'audit/gateway.jsonl'), 'utf8').trimEnd().split('\n');
  const records = lines.map((line) => JSON.parse(line)).filter(({ event }) => event === 'call');
  assert.deepEqual(
    records.map(({ tool, verdict, reason, status, subject }) => [
      tool,
      verdict,
      reason,
      status,
      subject,
    ]),
    [
      ['alpha', 'allow', 'ok', 200, 'local'],
      ['gamma', 'allow', 'failed', 200, 'local'],
      ['beta', 'deny', 'denied', 403, 'local'],
    ],
  );
  assert.ok(records.every(({ requestId, policyDigest }) => requestId && policyDigest));
  assert.ok(!lines.join().includes('hunter2'));
  assert.deepEqual((await verifyAudit(lines)).findings, []);
});

test('B7: arguments are recorded where that is asked for, without what looks like a secret', async (t) => {
  const { send, root, stop } = await startPoliced(t, {}, false, {
    policies: undefined,
    auditArguments: true,
  });
  const given = { path: '/a', apiKey: 'hunter2', url: 'postgres://u:p4ss@h/db' };
  await send({ ...call('alpha'), params: { name: 'alpha', arguments: given } });
  await stop();
  const file = readFileSync(join(root, 'audit/gateway.jsonl'), 'utf8');
  assert.match(file, /\\"path\\":\\"\/a\\"/);
  for (const hidden of ['hunter2', 'p4ss']) assert.ok(!file.includes(hidden), hidden);
});
