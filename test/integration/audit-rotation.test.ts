import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { MESH_UID } from '#core/mesh-user';
import { WHERE_ROOT_IS_GIVEN_UP } from '#core/testing/without-root';
import { type RunningMesh, startMesh } from '../support/mesh.ts';
import { readProc } from '../support/processes.ts';

// Parts that have given root up write their audit into files that only root can open: the directory is closed to them.

const MAX_BYTES = 16_384;

describe('L4: started as root', WHERE_ROOT_IS_GIVEN_UP, () => {
  let mesh: RunningMesh;
  before(async () => {
    mesh = await startMesh({
      env: {
        OUTRIDER_GATEWAY_AUDIT_MAX_BYTES: `${MAX_BYTES}B`,
        OUTRIDER_RUNNER_AUDIT_MAX_BYTES: `${MAX_BYTES}B`,
        OUTRIDER_RUNNER_AUDIT_FILES: '3',
      },
    });
  });
  after(() => mesh.stop());

  test('runner and gateway begin their full audit files anew, keep as many as they are told to, and what is kept verifies', async (t) => {
    const client = new Client({ name: 'test', version: '1' });
    await client.connect(
      new StreamableHTTPClientTransport(mesh.url, {
        requestInit: { headers: { authorization: `Bearer ${mesh.token}` } },
      }),
    );
    t.after(() => client.close());
    for (let at = 0; at < 60; at++)
      await client.callTool({ name: 'execute_python', arguments: { code: 'print(1)' } });
    const directory = join(mesh.state, 'audit');
    for (const [part, files] of [
      ['runner', 3],
      ['gateway', 5],
    ] as const) {
      assert.match(readProc(mesh.part(part), 'status'), new RegExp(`^Uid:\\s*${MESH_UID}`, 'm'));
      const names = readdirSync(directory).filter((name) => name.startsWith(`${part}.`));
      assert.equal(names.length, files);
      const found = names.map((name) => statSync(join(directory, name)));
      for (const { uid, mode } of found) assert.deepEqual([uid, mode & 0o777], [0, 0o600]);
      const sizes = found.map(({ size }) => size);
      assert.ok(sizes.filter((size) => size > 0).length > 1, `${part}: ${sizes.join()}`);
      assert.ok(Math.max(...sizes) <= MAX_BYTES, `${part}: ${sizes.join()}`);
    }
    const verified = await mesh.outrider(['audit', 'verify', directory]);
    assert.equal(verified.code, 0, verified.stdout);
  });
});
