import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { type RunningMesh, startMesh } from '../support/mesh.ts';
import { descendantsOf } from '../support/processes.ts';

// Calls that take longer than clients wait, that are given up, and that run when the mesh is told to stop: real programs in a real mesh.

const LONG_S = 90;
const WITHIN_MS = 60_000;

/** The tests run at once, all as one principal. */
const patient = (text: string): string =>
  text.replace('timeout: 60s', 'timeout: 120s\n    concurrent: 20');

async function connected(
  t: TestContext,
  { url, token }: RunningMesh,
  mode: 'legacy' | { readonly pin: string },
): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode } });
  const headers = { authorization: `Bearer ${token}` };
  await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
  t.after(() => client.close());
  return client;
}

const python = (code: string, timeout?: number) => ({
  name: 'execute_python',
  arguments: { code, ...(timeout === undefined ? {} : { timeout }) },
});

const MODES = ['legacy', { pin: '2026-07-28' }] as const;

describe('A11: a call that takes long', { concurrency: true }, () => {
  let mesh: RunningMesh;
  before(async () => {
    mesh = await startMesh({ policy: patient });
  });
  after(() => mesh.stop());

  for (const mode of MODES) {
    const era = mode === 'legacy' ? 'legacy' : 'modern';

    test(`of ${LONG_S} s ends well for a client that waits for 60 s, if its progress counts (${era})`, async (t) => {
      const client = await connected(t, mesh, mode);
      let told = 0;
      const from = performance.now();
      const { structuredContent } = await client.callTool(
        python(`import time; time.sleep(${LONG_S}); print("done")`, 120),
        { onprogress: () => (told += 1), resetTimeoutOnProgress: true },
      );
      assert.equal(Object(structuredContent).stdout, 'done\n');
      assert.ok(performance.now() - from >= LONG_S * 1_000);
      assert.ok(told >= LONG_S / 10, `told ${told} times`);
    });

    test(`of ${LONG_S} s is given up after 60 s where it does not: control (${era})`, async (t) => {
      const client = await connected(t, mesh, mode);
      const call = client.callTool(python(`import time; time.sleep(${LONG_S})`, 120));
      await assert.rejects(call, /timed out/i);
    });
  }

  /** A program that runs for 100 s, and what ends it as its client does. */
  function begin(client: Client, mark: string) {
    const abort = new AbortController();
    const call = client.callTool(
      {
        name: 'run_shell',
        arguments: { code: `exec python3 -c 'import time; time.sleep(100)' ${mark}` },
      },
      { signal: abort.signal },
    );
    call.catch(() => {});
    const runs = () =>
      descendantsOf(mesh.supervisor.pid ?? 0).some(({ argv }) => argv.includes(mark));
    return { call, runs, abort: () => abort.abort() };
  }

  for (const mode of MODES)
    test(`and is cancelled has its sandbox ended, and no other with its id (${JSON.stringify(mode)})`, async (t) => {
      const mark = `cancelled-${mode === 'legacy' ? 'legacy' : 'modern'}-${process.pid}`;
      const [mine, other] = [
        begin(await connected(t, mesh, mode), mark),
        // Of the same principal, and with the same JSON-RPC id.
        begin(await connected(t, mesh, mode), `${mark}-other`),
      ];
      await until(() => mine.runs() && other.runs());
      mine.abort();
      const from = performance.now();
      await assert.rejects(mine.call);
      await until(() => !mine.runs());
      assert.ok(performance.now() - from < 30_000, 'and not by running to its end');
      assert.ok(other.runs());
      other.abort();
      await until(() => !other.runs());
    });

  test('goes on where what cancels it has another id, another session, or none (legacy)', async () => {
    const { url, token } = mesh;
    const post = (message: object, session?: string) =>
      fetch(url, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...(session === undefined ? {} : { 'mcp-session-id': session }),
        },
        body: JSON.stringify({ jsonrpc: '2.0', ...message }),
      });
    const clientInfo = { name: 'test', version: '1' };
    const begins = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo };
    const sessionOf = async () =>
      (await post({ id: 1, method: 'initialize', params: begins })).headers.get('mcp-session-id') ??
      '';
    const [mine, another] = [await sessionOf(), await sessionOf()];
    const mark = (id: number) => `raw-${id}-${process.pid}`;
    const call = async (id: number) => {
      const code = `exec python3 -c 'import time; time.sleep(15)' ${mark(id)}`;
      const params = { name: 'run_shell', arguments: { code } };
      return (await post({ id, method: 'tools/call', params }, mine)).text();
    };
    const cancel = async (requestId: unknown, session?: string) => {
      const cancelled = { method: 'notifications/cancelled', params: { requestId } };
      assert.equal((await post(cancelled, session)).status, 202);
    };
    const calls = [call(7), call(8)];
    await until(() => {
      const running = descendantsOf(mesh.supervisor.pid ?? 0).flatMap(({ argv }) => argv);
      return running.includes(mark(7)) && running.includes(mark(8));
    });
    await Promise.all([cancel(7), cancel(7, another), cancel('7', mine), cancel(8, mine)]);
    const [goesOn, control] = await Promise.all(calls);
    assert.match(goesOn ?? '', /"killed_by":"exit"/);
    assert.match(control ?? '', /"killed_by":"disconnect"/);
  });
});

test('A12: told to stop during 10 calls, the mesh is not ready at once, answers them all, ends with 0 and leaves nothing', async (t) => {
  const mesh = await startMesh({
    env: { OUTRIDER_GATEWAY_DRAIN_NOTICE: '2s' },
    policy: (text) => text.replace('timeout: 60s', 'timeout: 60s\n    concurrent: 10'),
  });
  t.after(() => mesh.stop()); // where it was not stopped below
  const client = await connected(t, mesh, 'legacy');
  const readyz = async () =>
    (await fetch(new URL('/readyz', mesh.url), { signal: AbortSignal.timeout(WITHIN_MS) })).status;
  assert.equal(await readyz(), 200, 'control');
  let begun = 0;
  const calls = Array.from({ length: 10 }, (_, n) =>
    client.callTool(python(`import time; time.sleep(20); print(${n})`), {
      onprogress: () => (begun += 1),
    }),
  );
  await until(() => begun >= 10); // each has run for 5 s
  const stopped = mesh.stop('SIGTERM');
  await until(async () => (await readyz()) === 503);
  const results = await Promise.all(calls);
  assert.deepEqual(
    results.map(({ structuredContent }) => Object(structuredContent).stdout),
    Array.from({ length: 10 }, (_, n) => `${n}\n`),
  );
  await stopped;
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WITHIN_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not within ${WITHIN_MS} ms`);
    await sleep(20);
  }
}
