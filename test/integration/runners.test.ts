import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
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
  sandbox: {timeout: 30s, disk: 8MiB, memory: 256MiB, sessions: 8, concurrent: 8}
`;

interface Answer {
  readonly text: string;
  /** Our code where the call was refused. */
  readonly code: string;
  readonly retryAfterMs: number | undefined;
  readonly execId: string;
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
    const argv = ['--name', name, '--pool-size', '1', '--drain-timeout', '10s', ...issuers];
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
  { subject = 'alice', server = 0, session = '' } = {},
): Promise<Answer> {
  const principal = { issuer: ISSUER, subject, tenant: '', groups: [], claims: {} };
  const response = await fetch(servers[server] ?? '', {
    method: 'POST',
    headers: {
      authorization: `Bearer ${await signer.sign(principal)}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: {
        name: 'execute_python',
        arguments: { code, ...(session === '' ? {} : { session_id: session }) },
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
    execId: meta?.['outrider/exec']?.id ?? '',
  };
}

/** Which runner's audit has this exec. */
function ranOn({ execId }: Answer): number {
  return meshes.findIndex((mesh) =>
    readFileSync(join(mesh.directory, 'state', 'audit', 'runner.jsonl'), 'utf8').includes(
      `"execId":"${execId}"`,
    ),
  );
}

/** So many programs run, on all runners together. */
async function untilRunning(count: number): Promise<void> {
  for (let tries = 0; ; tries++) {
    const told = await Promise.all(meshes.map(({ client }) => client.capabilities()));
    const running = told.reduce((sum, { load }) => sum + (load?.running ?? 0), 0);
    if (running >= count) return;
    assert.ok(tries < 500, `${running} run`);
    await sleep(10);
  }
}

const times = <T>(count: number, make: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, at) => make(at));
const BUSY = 'import time; time.sleep(1.5); print("done")';

describe('several runners', () => {
  test('D6: load is spread over all of them, by either server', async () => {
    const answers = await Promise.all(
      times(12, (at) => execute(BUSY, { server: at % 2, subject: `user ${at % 3}` })),
    );
    assert.deepEqual(
      answers.map(({ text, code }) => text || code),
      times(12, () => 'done\n'),
    );
    const counts = [0, 1, 2].map((n) => answers.filter((one) => ranOn(one) === n).length);
    assert.ok(
      counts.every((count) => count >= 2),
      counts.join(),
    );
  });

  test('C13: the ninth program of eight is refused with a hint, whichever server and runner; others are not', async () => {
    const nine = times(9, (at) => execute(BUSY, { server: at % 2 }));
    const other = execute('print("bob")', { subject: 'bob' });
    const answers = await Promise.all(nine);
    const refused = answers.filter(({ code }) => code !== '');
    assert.deepEqual(
      refused.map(({ code, retryAfterMs }) => [code, retryAfterMs]),
      [['QUOTA_EXCEEDED', 1_000]],
    );
    const used = new Set(answers.filter(({ code }) => code === '').map(ranOn));
    assert.ok(used.size > 1, 'they ran on more than one runner');
    assert.equal((await other).text, 'bob\n');
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
