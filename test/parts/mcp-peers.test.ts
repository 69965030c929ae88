import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { type Fleet, startFleet } from '../support/fleet.ts';
import { type Ended, ended } from '../support/mesh.ts';
import { getPeers, type Peers } from '../support/peers.ts';
import { freePort, waitFor } from '../support/ports.ts';

// Programs of others, as they come from npm, before and behind two gateways. OUTRIDER_PEERS names the directory that they were
// installed into; without it they are installed into one of the test's own.

let peers: Peers;
before(() => {
  peers = getPeers(['sdk', 'inspector', 'remote', 'everything', 'supergateway', 'proxy']);
});
after(() => peers.remove());

/** Of the inspector's load. */
const REQUESTS = 200;
const GREETING = 'This is a simple text response for testing.';

describe('in front of two gateways and two servers', () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await startFleet({ gateways: 2, backends: 2 });
  });
  after(() => fleet.stop());

  for (const mode of ['legacy', 'auto', { pin: '2026-07-28' }] as const)
    test(`the SDK's client, version 2 (${JSON.stringify(mode)})`, async () => {
      const client = new Client({ name: 't', version: '1' }, { versionNegotiation: { mode } });
      await client.connect(new StreamableHTTPClientTransport(fleet.url));
      await assertServes(client, 'test_simple_text', {}, GREETING);
      assert.equal(client.getProtocolEra(), mode === 'legacy' ? 'legacy' : 'modern');
      await client.close();
    });

  test("the SDK's client, version 1", async () => {
    const load = (path: string) => import(pathToFileURL(peers.file('sdk', path)).href);
    const { Client: V1 } = await load('dist/esm/client/index.js');
    const { StreamableHTTPClientTransport: Transport } = await load(
      'dist/esm/client/streamableHttp.js',
    );
    const client = new V1({ name: 't', version: '1' });
    await client.connect(new Transport(fleet.url));
    await assertServes(client, 'test_simple_text', {}, GREETING);
    await client.close();
  });

  for (const era of ['legacy', 'modern'])
    test(`the inspector, under load (${era})`, async () => {
      const { code, stdout, stderr } = await inspect(fleet, era);
      assert.equal(code, 0, stderr);
      const { requests, ok, toolErrors, errors } = JSON.parse(stdout).result;
      const score = { requests, ok, toolErrors, errors };
      const wanted = { requests: REQUESTS, ok: REQUESTS, toolErrors: 0, errors: 0 };
      assert.deepEqual(score, wanted, stdout.slice(0, 2_000));
    });

  test('mcp-remote, which makes a stdio server of it', async () => {
    const client = new Client({ name: 't', version: '1' });
    await client.connect(
      new StdioClientTransport({
        command: process.execPath,
        args: [peers.program('remote', 'mcp-remote'), fleet.url.href, '--allow-http'],
        env: { HOME: fleet.place.directory, PATH: process.env['PATH'] ?? '' },
        stderr: 'ignore',
      }),
    );
    await assertServes(client, 'test_simple_text', {}, GREETING);
    await client.close();
  });

  function inspect({ url, place }: Fleet, era: string): Promise<Ended> {
    const child = spawn(
      process.execPath,
      [
        peers.program('inspector', 'mcp-inspector'),
        '--cli',
        url.href,
        '--transport',
        'http',
        '--protocol-era',
        era,
        '--method',
        'tools/call',
        '--tool-name',
        'test_simple_text',
        '--load',
        '--load-requests',
        String(REQUESTS),
        '--load-concurrency',
        '8',
        '--format',
        'json',
      ],
      {
        env: { PATH: process.env['PATH'], HOME: place.directory },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    return ended(child, 60_000);
  }
});

describe('behind two gateways', () => {
  // Each runs twice, so that a session must find its own.
  const BEHIND = {
    'server-everything': (port: number) => [
      peers.program('everything'),
      'streamableHttp',
      String(port),
    ],
    'supergateway, with sessions': (port: number) => [
      peers.program('supergateway'),
      '--stdio',
      `${process.execPath} ${peers.program('everything')} stdio`,
      '--outputTransport',
      'streamableHttp',
      '--stateful',
      '--port',
      String(port),
    ],
    'mcp-proxy': (port: number) => [
      peers.program('proxy'),
      '--port',
      String(port),
      '--host',
      '127.0.0.1',
      '--server',
      'stream',
      '--',
      process.execPath,
      peers.program('everything'),
      'stdio',
    ],
  } as const;

  for (const [name, argv] of Object.entries(BEHIND))
    test(name, async (t) => {
      const ports = [await freePort(), await freePort()];
      for (const port of ports) {
        const child = spawn(process.execPath, argv(port), {
          env: { PATH: process.env['PATH'], PORT: String(port) },
          stdio: 'ignore',
        });
        t.after(() => child.kill('SIGKILL'));
        await waitFor(port, child);
      }
      const fleet = await startFleet({ gateways: 2, backends: 0, servers: ports });
      t.after(() => fleet.stop());
      for (let session = 0; session < 6; session++) {
        const client = new Client(
          { name: 't', version: '1' },
          { versionNegotiation: { mode: 'auto' } },
        );
        await client.connect(new StreamableHTTPClientTransport(fleet.url));
        await assertServes(client, 'echo', { message: 'hällo' }, 'Echo: hällo');
        await client.close();
      }
    });
});

/** Lists the tools and calls one, several times, as requests go from one gateway to the other. */
async function assertServes(
  client: Pick<Client, 'listTools' | 'callTool'>,
  name: string,
  given: Record<string, unknown>,
  wanted: string,
): Promise<void> {
  const { tools } = await client.listTools();
  assert.ok(tools.some((tool) => tool.name === name));
  for (let call = 0; call < 4; call++) {
    const { content } = await client.callTool({ name, arguments: given });
    assert.deepEqual(content, [{ type: 'text', text: wanted }]);
  }
}
