import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client as OfficialClient } from '@modelcontextprotocol/client';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { OutriderError } from '#core/errors';
import { keySetPaths, readTrustedIssuers } from '#core/keys';
import { AssertionVerifier } from '#core/tokens';
import { ALWAYS_OFFERED } from '#gateway';
import { KilledBy, RunResponse } from '#proto';
import { type McpMesh, startMcpMesh } from '../support/mcp-mesh.ts';
import type { Play } from '../support/plays-runner.ts';

const ERAS = ['legacy', { pin: '2026-07-28' }] as const;
type Era = (typeof ERAS)[number];
const nameOf = (era: Era) => (typeof era === 'string' ? era : era.pin);

/** Answers with the code it was given, so that what arrives can be told from what was sent. */
const echo: Play = async ({ spec }, { requestId }) =>
  ended({
    stdout: spec?.program?.$case === 'source' ? spec.program.value.code : '',
    session: spec?.target?.$case === 'session' ? spec.target.value.name : '',
    requestId,
  });

function ended(
  is: {
    stdout?: string;
    stderr?: string;
    exitCode?: number;
    session?: string;
    requestId?: string;
  } = {},
): RunResponse {
  return RunResponse.fromPartial({
    started: {
      execId: 'exec-1',
      role: 'tester',
      session: is.session ?? '',
      requestId: is.requestId ?? '',
    },
    stdout: Buffer.from(is.stdout ?? ''),
    stderr: Buffer.from(is.stderr ?? ''),
    end: {
      killedBy: KilledBy.EXIT,
      exitCode: is.exitCode ?? 0,
      usage: { wall: { seconds: 1n, nanos: 500_000_000 } },
      artefacts: [{ path: 'report.csv', size: 12n }],
      egress: { allowed: 2n, denied: 1n },
    },
  });
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

async function connect(t: TestContext, mesh: McpMesh, era: Era): Promise<OfficialClient> {
  const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode: era } });
  const transport = new StreamableHTTPClientTransport(mesh.url, {
    requestInit: { headers: { authorization: `Bearer ${mesh.token}` } },
  });
  await client.connect(transport);
  t.after(() => client.close());
  return client;
}

test('A11: a cancellation of the session era ends its call from another server than the one that has it', async (t) => {
  const ends: unknown[] = [];
  const begun = deferred();
  const over = deferred();
  const mesh = await startMcpMesh(
    t,
    async (_request, { signal }) => {
      begun.resolve();
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      ends.push(Object(signal.reason).message);
      over.resolve();
      return ended();
    },
    2,
  );
  const client = await connect(t, mesh, 'legacy');
  const abort = new AbortController();
  const call = client.callTool(
    { name: 'execute_python', arguments: { code: 'x' } },
    { signal: abort.signal },
  );
  call.catch(() => {});
  await begun.promise;
  abort.abort(); // one of two has a request in flight, so that the next one goes to the other
  await assert.rejects(call);
  await over.promise;
  assert.deepEqual(ends, ['cancelled']);
});

for (const era of ERAS) {
  test(`A2: the official client lists and calls execute_python (${nameOf(era)})`, async (t) => {
    const client = await connect(t, await startMcpMesh(t, echo), era);
    const { tools } = await client.listTools();
    assert.deepEqual(
      tools.map(({ name }) => name),
      [...ALWAYS_OFFERED],
      'the gateway allows these to a Role that names no tools',
    );

    const result = await client.callTool({
      name: 'execute_python',
      arguments: { code: 'print("höhe")', session_id: 'work-1' },
    });
    assert.deepEqual(result.content, [{ type: 'text', text: 'print("höhe")' }]);
    assert.deepEqual(result.structuredContent, {
      stdout: 'print("höhe")',
      stderr: '',
      exit_code: 0,
      killed_by: 'exit',
      duration_ms: 1500,
      files: [{ path: 'report.csv', size: 12 }],
      session_id: 'work-1',
      stdout_dropped: 0,
      stderr_dropped: 0,
      egress: { allowed: 2, denied: 1 },
    });
    assert.notEqual(result.isError, true);
  });

  test(`a failed program is an answer with isError, not a protocol error (${nameOf(era)})`, async (t) => {
    const mesh = await startMcpMesh(t, async () =>
      ended({ stdout: 'half', stderr: 'Traceback', exitCode: 1 }),
    );
    const client = await connect(t, mesh, era);
    const result = await client.callTool({ name: 'execute_python', arguments: { code: 'x' } });
    assert.equal(result.isError, true);
    assert.deepEqual(result.content, [
      { type: 'text', text: 'half' },
      { type: 'text', text: '[stderr]\nTraceback' },
      { type: 'text', text: '[exit code 1]' },
    ]);
    assert.equal(Object(result.structuredContent).exit_code, 1);
  });

  test(`a refusal of the runner reaches the client with its code (${nameOf(era)})`, async (t) => {
    const mesh = await startMcpMesh(t, async () => {
      throw new OutriderError('QUOTA_EXCEEDED', 'too many sandboxes', { retryAfterMs: 1500 });
    });
    const client = await connect(t, mesh, era);
    const result = await client.callTool({ name: 'execute_python', arguments: { code: 'x' } });
    assert.equal(result.isError, true);
    const { _meta: meta } = result;
    assert.deepEqual(Object(meta)['outrider/error'], {
      code: 'QUOTA_EXCEEDED',
      message: 'too many sandboxes',
      retryAfterMs: 1500,
    });
  });

  test(`the runner gets the local principal's assertion, the limit and the deadline (${nameOf(era)})`, async (t) => {
    let seen: Parameters<Play> | undefined;
    const mesh = await startMcpMesh(t, async (...call) => {
      seen = call;
      return ended();
    });
    const client = await connect(t, mesh, era);
    await client.callTool({ name: 'execute_python', arguments: { code: 'x', timeout: 7 } });
    assert.ok(seen);
    const [{ spec }, context] = seen;
    assert.equal(spec?.timeout?.seconds, 7n);
    const left = context.deadline - Date.now();
    assert.ok(left > 0 && left <= 22_000, `the deadline is in ${left} ms`);
    const issuers = readTrustedIssuers(keySetPaths(join(mesh.state, 'run/keys')).assertionIssuers);
    const { principal } = await new AssertionVerifier(issuers).verify(context.bearer ?? '');
    assert.equal(principal.subject, 'local');
    assert.notEqual(context.bearer, mesh.token);
  });

  test(`200 000 characters of code pass, one more is refused (${nameOf(era)})`, async (t) => {
    const client = await connect(t, await startMcpMesh(t, echo), era);
    const code = '水'.repeat(200_000);
    const result = await client.callTool({ name: 'execute_python', arguments: { code } });
    assert.equal(Object(result.structuredContent).stdout, code);
    const refused = await client.callTool({
      name: 'execute_python',
      arguments: { code: `${code}x` },
    });
    assert.equal(refused.isError, true);
    assert.match(JSON.stringify(refused.content), /Input validation error/);
  });

  test(`a client that goes away cancels the program (${nameOf(era)})`, {
    timeout: 120_000,
  }, async (t) => {
    const cancelled = deferred();
    const running = deferred();
    const mesh = await startMcpMesh(t, async (_, { signal }) => {
      running.resolve();
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      cancelled.resolve();
      return ended();
    });
    const client = await connect(t, mesh, era);
    const call = client.callTool({ name: 'execute_python', arguments: { code: 'x' } });
    call.catch(() => {});
    await running.promise;
    await client.close();
    await cancelled.promise;
  });
}

test('progress is reported while a program runs, to a client that asks, in both eras', {
  timeout: 120_000,
}, async (t) => {
  const mesh = await startMcpMesh(t, async () => {
    await sleep(5_600);
    return ended();
  });
  await Promise.all(
    ERAS.map(async (era) => {
      const client = await connect(t, mesh, era);
      const seen: unknown[] = [];
      await client.callTool(
        { name: 'execute_python', arguments: { code: 'x', timeout: 30 } },
        { onprogress: ({ progress, total }) => seen.push([progress, total]) },
      );
      assert.deepEqual(seen, [[5, 30]], nameOf(era));
    }),
  );
});

test('a client that negotiates ends up with the stateless era', async (t) => {
  const mesh = await startMcpMesh(t, echo);
  const client = new Client({ name: 't', version: '1' }, { versionNegotiation: { mode: 'auto' } });
  const headers = { authorization: `Bearer ${mesh.token}` };
  await client.connect(new StreamableHTTPClientTransport(mesh.url, { requestInit: { headers } }));
  t.after(() => client.close());
  assert.equal(client.getProtocolEra(), 'modern');
});

test('with one of two servers killed, every call is still answered', {
  timeout: 120_000,
}, async (t) => {
  const mesh = await startMcpMesh(t, echo, 2);
  const client = await connect(t, mesh, 'legacy');
  const call = () => client.callTool({ name: 'execute_python', arguments: { code: 'x' } });
  await Promise.all(Array.from({ length: 8 }, call));
  await mesh.killServer(0);
  const results = await Promise.all(Array.from({ length: 16 }, call));
  assert.deepEqual(new Set(results.map(({ isError }) => isError ?? false)), new Set([false]));
});

const RAW = [
  ['malformed JSON', '{"jsonrpc": ', 400, -32_700],
  ['an unknown method', '{"jsonrpc":"2.0","id":1,"method":"tools/destroy"}', 200, -32_601],
  [
    'a call that names no tool',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}',
    400,
    -32_602,
  ],
  [
    'a tool that the server has not',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nothing"}}',
    200,
    -32_602,
  ],
  ['a notification', '{"jsonrpc":"2.0","method":"notifications/initialized"}', 202, undefined],
  ['a good request', '{"jsonrpc":"2.0","id":1,"method":"tools/list"}', 200, undefined],
] as const;

test('A9: a message that is wrong has the code of the protocol, from the gateway or from the server behind it', async (t) => {
  const mesh = await startMcpMesh(t, echo);
  for (const [what, body, status, code] of RAW) {
    const response = await fetch(mesh.url, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${mesh.token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body,
    });
    const text = await response.text();
    assert.equal(response.status, status, what);
    assert.equal(/"code":(-\d+)/.exec(text)?.[1], code?.toString(), what);
    if (status === 202) assert.equal(text, '');
  }
});
