import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseRedisUrl } from '#core/redis';
import { createRedisStore, type LeaseStore } from '#proxy';

/** A real Redis, on a port of its own and with nothing in it. */
export interface TestRedis {
  readonly port: number;
  /** A store that is connected. */
  readonly store: (member: string) => Promise<LeaseStore>;
  readonly kill: () => Promise<void>;
  /** Starts it again, on the same port and with nothing in it. */
  readonly again: () => Promise<void>;
  readonly stop: () => Promise<void>;
}

/** Starts Debian's redis-server without persistence. @throws {Error} where it is not installed */
export async function startRedis(options: readonly string[] = []): Promise<TestRedis> {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-redis-'));
  const port = await freePort();
  let server: ChildProcess;
  const start = async (): Promise<void> => {
    server = spawn(
      'redis-server',
      ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory, ...options],
      { stdio: 'ignore' },
    );
    const failed = once(server, 'error').then(([error]) => Promise.reject(error));
    failed.catch(() => {});
    await Promise.race([until(() => accepts(port)), failed]);
  };
  const kill = async (): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const gone = once(server, 'exit');
    server.kill('SIGKILL');
    await gone;
  };
  await start();
  return {
    port,
    async store(member) {
      const store = createRedisStore(member, {
        address: parseRedisUrl(`redis://127.0.0.1:${port}`),
        password: () => undefined,
      });
      await until(() => Promise.resolve(store.available));
      return store;
    },
    kill,
    again: start,
    async stop() {
      await kill();
      rmSync(directory, { recursive: true });
    },
  };
}

/** Waits until something is so, for a minute at most. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 60_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return address.port;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
