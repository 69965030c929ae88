import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { packageRoot } from '#core/package-root';
import { KilledBy, RunResponse } from '#proto';
import { startMcpMesh } from '../support/mcp-mesh.ts';
import { until } from '../support/mesh.ts';

const SCRIPT =
  "import { mcp } from './cli/mcp.ts'; process.exitCode = await mcp(process.argv.slice(1), process.env, process);";

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
    const transport = new StdioClientTransport({
      command: process.execPath,
      args: [
        '--conditions=outrider-source',
        '--input-type=module',
        '-e',
        SCRIPT,
        '--',
        '--url',
        mesh.url.href,
      ],
      cwd: packageRoot,
      env: { OUTRIDER_STATE_DIR: mesh.state },
      stderr: 'pipe',
    });
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
