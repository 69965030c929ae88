import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type ExampleApi, startExampleApi } from '../support/example-api.ts';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { askAsSidecar, executionToken } from '../support/plays-sidecar.ts';

// A token outlives its program by nothing: the runner tells the proxy when one has ended, or was lost.

const SECRET = 'datasource-secret-91c07d55';
const PROGRAM = `
import os, sys, urllib.request
print(urllib.request.urlopen(os.environ["OUTRIDER_URL"] + "/http/example/items?q=%s").status, flush=True)
sys.stdin.read()
`;

let mesh: RunningMesh;
let api: ExampleApi;
before(async () => {
  mesh = await startMesh();
  mesh.writeSecret('example-api-token', SECRET);
  api = await startExampleApi(mesh.ports.example, SECRET);
});
after(async () => {
  await api.close();
  await mesh.stop();
});

/** Starts a program that asks once and then waits for the end of its stdin; resolves to its id, which the audit has. */
async function startProgram(mark: string) {
  const program = mesh.sdk.start(PROGRAM.replace('%s', mark), { timeoutMs: 60_000 });
  const end = (async () => {
    for await (const event of program.events) if (event.stream === 'end') return event.end;
    return undefined;
  })();
  const recordOf = () =>
    mesh
      .audit('proxy')
      .find(({ event, query }) => event === 'request' && String(query).includes(mark));
  await until('it has asked', () => recordOf() !== undefined);
  return { program, end, execId: String(recordOf()?.['execId']) };
}

test("E5: a token of a program that has ended is refused, and the same program's was good before", async () => {
  const { program, end, execId } = await startProgram('first');
  const token = await executionToken(mesh, { execId });
  assert.deepEqual(await askAsSidecar(mesh, token), { status: 200, code: undefined });
  program.closeStdin();
  await end;
  await until('it is refused', async () => (await askAsSidecar(mesh, token)).status === 401);
  assert.deepEqual(await askAsSidecar(mesh, token), { status: 401, code: 'TOKEN_REVOKED' });
  const other = await executionToken(mesh, { execId: 'exec-another' });
  assert.equal((await askAsSidecar(mesh, other)).status, 200);
});

test('E5: a token of a program that was lost with its runner is refused as soon as there is a runner again', async () => {
  const { end, execId } = await startProgram('second');
  const token = await executionToken(mesh, { execId });
  assert.equal((await askAsSidecar(mesh, token)).status, 200);
  process.kill(mesh.part('runner'), 'SIGKILL');
  await end.catch(() => {});
  await until(
    'it is refused',
    async () => (await askAsSidecar(mesh, token)).code === 'TOKEN_REVOKED',
  );
});
