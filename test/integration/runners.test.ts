import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatAddress, parseAddress } from '#core/address';
import { loadConfig } from '#core/config';
import { keySetPaths, readSigningKey } from '#core/keys';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { AssertionSigner } from '#core/tokens';
import { createMcpServer, serverSpec } from '#server';
import { type RunnerMesh, startRunnerMesh } from '../support/runner-mesh.ts';

/** Two servers in front of three runners, all real. */

const ISSUER = 'https://idp.test';
const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members: [{issuer: "${ISSUER}"}]
  sandbox: {timeout: 5m, disk: 8MiB, memory: 256MiB, sessions: 8, concurrent: 8}
`;

/** The era in which a call ends with the connection that asked for it. */
const MODERN = '2026-07-28';
/** Of a client that stays. */
const NEVER = new AbortController().signal;

interface Answer {
  readonly text: string;
  /** Our code where the call was refused. */
  readonly code: string;
  readonly retryAfterMs: number | undefined;
}

const meshes: RunnerMesh[] = [];
const stops: (() => Promise<unknown>)[] = [];
let servers: string[] = [];
let signer: AssertionSigner;

before(async () => {
  // One set of keys: any of the runners takes what the gateway signs.
  for (const name of ['one', 'two', 'three']) {
    const [first] = meshes;
    const issuers = first ? ['--assertion-issuers', keysOf(first).assertionIssuers] : [];
    const argv = ['--name', name, '--pool-size', '1', '--drain-timeout', '60s', ...issuers];
    meshes.push(await startRunnerMesh({ policies: POLICIES, argv }));
  }
  const [first] = meshes;
  assert.ok(first);
  signer = new AssertionSigner(readSigningKey(keysOf(first).gateway));
  servers = await Promise.all([0, 1].map(() => startServer(first)));
});
after(async () => {
  for (const stop of stops) await stop();
  await Promise.all(meshes.map((mesh) => mesh.stop()));
});

function keysOf(mesh: RunnerMesh) {
  return keySetPaths(join(mesh.runtime, 'keys'));
}

async function startServer(mesh: RunnerMesh): Promise<string> {
  const paths = { runtime: mesh.runtime, state: join(mesh.directory, 'state') };
  const runners = meshes.map(({ socket }) => `unix:${socket}`).join(',');
  const argv = ['--runner', runners, '--listen', '127.0.0.1:0'];
  const config = loadConfig('server', serverSpec(paths), { argv, env: {} });
  const server = createMcpServer(config, { log: silentLogger, metrics: new Metrics('server') });
  const address = await server.start();
  stops.push(() => server.stop());
  return `http://${formatAddress(parseAddress(formatAddress(address)))}/mcp`;
}

/** One call of execute_python at one of the servers. */
async function execute(
  code: string,
  { subject = 'alice', server = 0, session = '', signal = NEVER } = {},
): Promise<Answer> {
  const principal = { issuer: ISSUER, subject, tenant: '', groups: [], claims: {} };
  const response = await fetch(servers[server] ?? '', {
    method: 'POST',
    signal,
    headers: {
      authorization: `Bearer ${await signer.sign(principal)}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': MODERN,
      'mcp-method': 'tools/call',
      'mcp-name': 'execute_python',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: {
        name: 'execute_python',
        arguments: { code, ...(session === '' ? {} : { session_id: session }) },
        _meta: {
          'io.modelcontextprotocol/protocolVersion': MODERN,
          'io.modelcontextprotocol/clientCapabilities': {},
        },
      },
    }),
  });
  const data = /^data: (\{.*\})$/m.exec(await response.text())?.[1] ?? assert.fail('no answer');
  const { result } = JSON.parse(data);
  const { _meta: meta } = result;
  const error = meta?.['outrider/error'];
  return {
    text: result.structuredContent?.stdout ?? '',
    code: error?.code ?? '',
    retryAfterMs: error?.retryAfterMs,
  };
}

/** So many programs run, on all runners together. */
async function untilRunning(count: number): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const running = (await runningOnEach()).reduce((sum, many) => sum + many, 0);
    if (running === count) return;
    assert.ok(Date.now() < deadline, `${running} run`);
    await sleep(10);
  }
}

/** How many programs each runner runs. */
async function runningOnEach(): Promise<number[]> {
  const told = await Promise.all(meshes.map(({ client }) => client.capabilities()));
  return told.map(({ load }) => load?.running ?? 0);
}

const times = <T>(count: number, make: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, at) => make(at));
/** Ends when its client leaves, and otherwise after all that is done meanwhile. */
const WAITS = 'import time; time.sleep(120)';
/** Ends by itself, once as many have begun as are to run together. */
const BUSY = 'import time; time.sleep(10); print("done")';

describe('several runners', () => {
  test('D6: load is spread over all of them, by either server', async () => {
    const leave = new AbortController();
    const { signal } = leave;
    const all = Promise.allSettled(
      times(12, (at) => execute(WAITS, { server: at % 2, subject: `user ${at % 3}`, signal })),
    );
    await untilRunning(12);
    const counts = await runningOnEach();
    leave.abort();
    await all;
    assert.ok(
      counts.every((count) => count >= 2),
      counts.join(),
    );
    await untilRunning(0);
  });

  test('C13: the ninth program of eight is refused with a hint, whichever server and runner; others are not', async () => {
    const leave = new AbortController();
    const { signal } = leave;
    const nine = times(9, (at) => execute(WAITS, { server: at % 2, signal }));
    const other = execute('print("bob")', { subject: 'bob' });
    const refused = await Promise.race(nine);
    assert.deepEqual([refused.code, refused.retryAfterMs], ['QUOTA_EXCEEDED', 1_000]);
    assert.equal((await other).text, 'bob\n');
    await untilRunning(8);
    const used = (await runningOnEach()).filter((count) => count > 0);
    assert.ok(used.length > 1, 'they run on more than one runner');
    leave.abort();
    await Promise.allSettled(nine);
    await untilRunning(0);
    const again = await Promise.all(times(8, (at) => execute('print(1)', { server: at % 2 })));
    assert.ok(
      again.every(({ code }) => code === ''),
      'their places are free again',
    );
  });

  test("a session's programs find each other's files, whichever server they come by", async () => {
    for (const name of ['a', 'b', 'c', 'd']) {
      await execute(`open("f", "w").write("${name}")`, { session: name });
      const { text } = await execute('print(open("f").read())', { session: name, server: 1 });
      assert.equal(text, `${name}\n`);
    }
  });

  test('D6: a runner that drains gets nothing new, and no call fails for it', async () => {
    const long = await Promise.all(
      times(6, (at) => execute('print(1)', { subject: `drain ${at}` })),
    );
    assert.ok(long.every(({ code }) => code === ''));
    const running = times(3, (at) => execute(BUSY, { subject: `drain ${at}` }));
    await untilRunning(3);
    const stopped = meshes[0]?.end('runner', 'SIGTERM');
    const during = [];
    for (let at = 0; at < 12; at++)
      during.push(await execute('print(1)', { subject: `drain ${at}`, server: at % 2 }));
    assert.deepEqual(
      during.map(({ code }) => code),
      times(12, () => ''),
    );
    const ended = await Promise.all(running);
    assert.ok(
      ended.every(({ text }) => text === 'done\n'),
      'what ran was let end',
    );
    await stopped;
    await meshes[0]?.startPart('runner');
  });

  test('a runner that is killed costs the programs that it ran, by name, and no other', async () => {
    const victim = meshes[1];
    assert.ok(victim);
    const running = times(9, (at) => execute(BUSY, { subject: `kill ${at}` }));
    await untilRunning(9);
    await victim.end('runner', 'SIGKILL');
    const answers = await Promise.all(running);
    const lost = answers.filter(({ code }) => code !== '');
    assert.ok(lost.length > 0 && lost.length < 9, `${lost.length} lost`);
    for (const { code } of lost) assert.equal(code, 'UPSTREAM_LOST');
    const next = await Promise.all(
      times(9, (at) => execute('print(1)', { subject: `kill ${at}` })),
    );
    assert.ok(
      next.every(({ code }) => code === ''),
      'fresh programs go on',
    );
    await victim.startPart('runner');
  });
});
