import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { packageRoot } from '#core/package-root';
import { KilledBy, RunResponse } from '#proto';
import { type Fleet, startFleet } from '../support/fleet.ts';
import { startMcpMesh } from '../support/mcp-mesh.ts';
import { until } from '../support/mesh.ts';

const TIME = { timeout: 120_000 };
const SCRIPT =
  "import { mcp } from './cli/mcp.ts'; process.exitCode = await mcp(process.argv.slice(1), process.env, process);";

function frontOf(url: URL, env: Readonly<Record<string, string>>): StdioClientTransport {
  const node = ['--conditions=outrider-source', '--input-type=module', '-e', SCRIPT, '--'];
  return new StdioClientTransport({
    command: process.execPath,
    args: [...node, '--url', url.href],
    cwd: packageRoot,
    env: { ...env },
    stderr: 'pipe',
  });
}

for (const era of ['legacy', 'auto', { pin: '2026-07-28' }] as const)
  test(`A1: the official client works over stdio, gateway and server (${JSON.stringify(era)})`, {
    timeout: 120_000,
  }, async (t) => {
    const cancelled: string[] = [];
    const mesh = await startMcpMesh(t, async ({ spec }, { signal }) => {
      const code = spec?.program?.$case === 'source' ? spec.program.value.code : '';
      if (code === 'sleep') {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        cancelled.push(code);
      }
      return RunResponse.fromPartial({
        stdout: Buffer.from(code),
        end: { killedBy: KilledBy.EXIT, exitCode: 0 },
      });
    });
    const client = new Client({ name: 't', version: '1' }, { versionNegotiation: { mode: era } });
    const transport = frontOf(mesh.url, { OUTRIDER_STATE_DIR: mesh.state });
    await client.connect(transport);
    t.after(() => client.close());
    assert.equal(client.getProtocolEra(), era === 'legacy' ? 'legacy' : 'modern');
    assert.equal((await client.listTools()).tools.length, 4);
    const run = (code: string, options = {}) =>
      client.callTool({ name: 'execute_python', arguments: { code } }, options);
    const results = await Promise.all(['1', '2', '3'].map((code) => run(code)));
    assert.deepEqual(
      results.map(({ structuredContent }) => Object(structuredContent).stdout),
      ['1', '2', '3'],
    );

    const abort = new AbortController();
    const sleeping = run('sleep', { signal: abort.signal });
    setTimeout(() => abort.abort(), 200);
    await assert.rejects(sleeping);
    await until('it is cancelled', () => cancelled.length > 0);
    assert.equal(Object((await run('after')).structuredContent).stdout, 'after');
  });

describe('before two gateways and a server of sessions, a client over stdio', () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await startFleet({ gateways: 2, backends: 1 });
  });
  after(() => fleet.stop());

  async function connected(
    t: TestContext,
    mode: 'legacy' | { readonly pin: '2026-07-28' } = 'legacy',
  ): Promise<Client> {
    const client = new Client(
      { name: 't', version: '1' },
      { versionNegotiation: { mode }, capabilities: { sampling: {} } },
    );
    client.setRequestHandler('sampling/createMessage', () => ({
      role: 'assistant',
      model: 'm',
      content: { type: 'text', text: 'sampled' },
    }));
    await client.connect(frontOf(fleet.url, fleet.place.env));
    t.after(() => client.close());
    return client;
  }

  const say = async (client: Client, name: string, args = {}): Promise<unknown> => {
    const { content } = await client.callTool({ name, arguments: args });
    return Object(Array.isArray(content) ? content[0] : undefined).text;
  };

  const heard = (client: Client): Promise<void> =>
    new Promise((resolve) => {
      client.setNotificationHandler('notifications/tools/list_changed', () => resolve());
    });

  test('hears in a session that a list has changed', TIME, async (t) => {
    const client = await connected(t);
    const changed = heard(client);
    // The stream is opened beside the first calls.
    const timer = setInterval(() => void say(client, 'announce').catch(() => {}), 500);
    t.after(() => clearInterval(timer));
    await changed;
  });

  test('hears of it by a subscription of the stateless era', TIME, async (t) => {
    const client = await connected(t, { pin: '2026-07-28' });
    const changed = heard(client);
    const subscription = await client.listen({ toolsListChanged: true });
    t.after(() => subscription.close());
    await say(client, 'test_trigger_tool_change');
    await changed;
  });

  test('gets the answer of a call whose server hangs up before it', TIME, async (t) => {
    const client = await connected(t);
    assert.equal(await say(client, 'test_reconnection'), 'answered after the stream was closed');
  });

  test('is asked by the server and answers it', TIME, async (t) => {
    const client = await connected(t);
    assert.equal(await say(client, 'test_sampling', { prompt: 'x' }), 'LLM response: sampled');
  });

  test('does not notice that the server has forgotten its session', TIME, async (t) => {
    const client = await connected(t);
    await say(client, 'test_simple_text');
    const [backend] = fleet.backends;
    await backend?.end('SIGKILL');
    await backend?.start();
    const texts = await Promise.all([1, 2, 3].map(() => say(client, 'test_simple_text')));
    assert.deepEqual(new Set(texts), new Set(['This is a simple text response for testing.']));
    const changed = heard(client);
    const timer = setInterval(() => void say(client, 'announce').catch(() => {}), 500);
    t.after(() => clearInterval(timer));
    await changed;
    assert.equal(await say(client, 'test_sampling', { prompt: 'x' }), 'LLM response: sampled');
  });
});
