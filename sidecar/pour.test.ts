import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { intoOwnMemory, pour } from './pour.ts';

const CONNECTIONS = 6;
const BYTES = 6 * 1_024 * 1_024 + 13;

test('what many connections pour at once arrives whole, whoever reads slowly, and so does its end', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'o-pour-'));
  const [from, to] = [join(directory, 'from.sock'), join(directory, 'to.sock')];
  const sources = Array.from({ length: CONNECTIONS }, () => randomBytes(BYTES));
  const left = [...sources];
  const origin = createServer((socket) => socket.end(left.shift() ?? Buffer.alloc(0)));
  const door = createServer((socket: Socket) => {
    const upstream = connect({ path: from, onread: intoOwnMemory });
    let passed = 0;
    pour(upstream, socket, ({ length }) => (passed += length));
    upstream.once('end', () => assert.equal(passed, BYTES));
  });
  for (const [server, path] of [
    [origin, from],
    [door, to],
  ] as const)
    await once(server.listen({ path }), 'listening');
  t.after(() => {
    origin.close();
    door.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const digests = await Promise.all(
    Array.from({ length: CONNECTIONS }, async (_, index) => {
      const hash = createHash('sha256');
      for await (const chunk of connect({ path: to })) {
        hash.update(chunk);
        if (index % 2 === 0) await new Promise((resolve) => setImmediate(resolve)); // reads slowly
      }
      return hash.digest('hex');
    }),
  );
  const sent = sources.map((bytes) => createHash('sha256').update(bytes).digest('hex'));
  assert.deepEqual(digests.toSorted(), sent.toSorted());
});
