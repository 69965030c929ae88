import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startMesh, until } from '../support/mesh.ts';

const PROGRAM = `
import urllib.request
try:
    urllib.request.urlopen("http://prometheus-metrics.outrider.internal/api/v1/query?query=up", timeout=10)
except Exception as error:
    print(error)
`;

test('A10: the id of a request, given or made, is in its answer and in the records of gateway, runner, sidecar and proxy', async (t) => {
  const mesh = await startMesh();
  t.after(() => mesh.stop());
  for (const given of ['req-of-the-client', undefined]) {
    const response = await fetch(mesh.url, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${mesh.token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...(given === undefined ? {} : { 'x-request-id': given }),
      },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'tools/call',
        params: { name: 'execute_python', arguments: { code: PROGRAM } },
      }),
    });
    assert.equal(response.status, 200);
    const id = response.headers.get('x-request-id');
    assert.match(await response.text(), /"exit_code":0/);
    assert.ok(id !== null && (given === undefined ? id.startsWith('req-') : id === given), `${id}`);
    for (const part of ['gateway', 'runner', 'sidecar', 'proxy'])
      await until(`${id} is in the audit of the ${part}`, () =>
        mesh.audit(part).some(({ requestId }) => requestId === id),
      );
  }
});
