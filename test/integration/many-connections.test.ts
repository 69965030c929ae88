import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type RunningMesh, startMesh } from '../support/mesh.ts';

// A program, through all that is between it and the sidecar.

let mesh: RunningMesh;
before(async () => {
  mesh = await startMesh();
});
after(() => mesh.stop());

const PROGRAM = `
import socket
def door():
    line = socket.create_connection(('127.0.0.1', 3128))
    line.settimeout(30)
    return line
def asked():
    line = door()
    line.sendall(b'GET http://x.test/ HTTP/1.1\\r\\nHost: x.test\\r\\n\\r\\n')
    return line.recv(4096).split(b'\\r\\n')[0].decode()
for _ in range(5):
    held = [door() for _ in range(256)]
    for line in held:
        line.sendall(b'GET http')
    print(asked())
    for line in held:
        line.close()
    print(asked())
`;

test('a program with as many connections as it may have is told so; one that ends them may open the next at once', async () => {
  const { stdout, stderr } = await mesh.sdk.run(PROGRAM, { timeoutMs: 60_000 });
  const [told, taken] = ['503 Service Unavailable (Outrider: conn_limit)', '403 Forbidden'];
  const lines = stdout.trim().split('\n');
  assert.equal(lines.length, 10, stderr);
  for (const [at, line] of lines.entries())
    assert.ok(line.startsWith(`HTTP/1.1 ${at % 2 === 0 ? told : taken}`), line);
});
