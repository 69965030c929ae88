import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInNamespace } from '../support/namespace.ts';
import { HOST } from '../support/protocol-path.ts';

// WebSocket, gRPC and long streams from a program to a public host, through a real door and a real proxy, intercepted and in plain. Each
// file runs in a network namespace of its own. Needs root, iproute2 and openssl.

for (const file of ['websocket.ts', 'grpc.ts', 'streams.ts'])
  for (const { name, ok, said } of await runInNamespace(
    join(import.meta.dirname, 'protocols', file),
    [HOST],
  ))
    test(name, () => assert.ok(ok, said));
