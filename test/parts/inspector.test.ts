import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Ended, ended, type RunningMesh, startMesh } from '../support/mesh.ts';

// The MCP inspector as its makers publish it, against the running mesh. OUTRIDER_INSPECTOR names the directory that it was
// installed into; without it, `mcp-inspector` must be on the PATH.

const installed = process.env['OUTRIDER_INSPECTOR'];
const INSPECTOR = installed ? join(installed, 'node_modules/.bin/mcp-inspector') : 'mcp-inspector';

let mesh: RunningMesh;
before(async () => {
  mesh = await startMesh();
});
after(() => mesh.stop());

function inspect(era: string, token: string, ...more: readonly string[]): Promise<Ended> {
  const argv = [
    ['--cli', mesh.url.href, '--transport', 'http', '--protocol-era', era],
    ['--header', `Authorization: Bearer ${token}`],
    more,
  ].flat();
  const child = spawn(INSPECTOR, argv, {
    env: { PATH: process.env['PATH'], HOME: mesh.directory },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return ended(child, 60_000);
}

for (const era of ['legacy', 'modern']) {
  test(`the inspector lists the tools (${era})`, async () => {
    const { code, stdout, stderr } = await inspect(era, mesh.token, '--method', 'tools/list');
    assert.equal(code, 0, stderr);
    const { tools } = JSON.parse(stdout);
    assert.deepEqual(
      tools.map(({ name }: { name: string }) => name),
      ['execute_python', 'run_js', 'run_shell', 'manage_session'],
    );
    assert.match(stderr, /Schema portability: 0 errors/);
  });

  test(`the inspector calls execute_python (${era})`, async () => {
    const call = ['--method', 'tools/call', '--tool-name', 'execute_python'];
    const { code, stdout, stderr } = await inspect(
      era,
      mesh.token,
      ...call,
      '--tool-arg',
      'code=print(6 * 7)',
    );
    assert.equal(code, 0, stderr);
    const { structuredContent } = JSON.parse(stdout);
    assert.deepEqual(
      [structuredContent.stdout, structuredContent.exit_code, structuredContent.killed_by],
      ['42\n', 0, 'exit'],
    );
  });

  test(`the inspector with a wrong token is not let in (${era})`, async () => {
    const { code, stdout } = await inspect(era, `${mesh.token}x`, '--method', 'tools/list');
    assert.notEqual(code, 0);
    assert.doesNotMatch(stdout, /execute_python/);
  });
}
