import type { ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { accepts, listen } from '#core/http';

const READY_WITHIN_MS = 120_000;

/** A port that was free a moment ago, for a program that cannot say which one it took. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  await new Promise((resolve) => server.close(resolve));
  return address.kind === 'tcp' ? address.port : 0;
}

/** Resolves when a program takes connections at its port. @throws {Error} where it ends before, or takes longer than two minutes */
export async function waitFor(port: number, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + READY_WITHIN_MS;
  while (!(await accepts({ kind: 'tcp', host: '127.0.0.1', port }))) {
    if (child.exitCode !== null || performance.now() > deadline)
      throw new Error('a program did not start');
    await sleep(50);
  }
}
