import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { freePort, waitFor } from './ports.ts';

/** A Redis server of this test's own, with a password, that keeps nothing on disk. */
export async function startRedis(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-redis-'));
  const [port, password] = [await freePort(), 'of this test'];
  const passwordFile = join(directory, 'password');
  writeFileSync(passwordFile, password, { mode: 0o600 });
  const settings = ['port', String(port), 'bind', '127.0.0.1', 'save', '', 'dir', directory];
  writeFileSync(
    join(directory, 'redis.conf'),
    [...pairs(settings), `requirepass "${password}"`].join('\n'),
    { mode: 0o600 },
  );
  const child = spawn('redis-server', [join(directory, 'redis.conf')], { stdio: 'ignore' });
  t.after(async () => {
    await end(child);
    rmSync(directory, { recursive: true, force: true });
  });
  await once(child, 'spawn');
  await waitFor(port, child);
  const url = `redis://127.0.0.1:${port}/1`;
  return { url, passwordFile, kill: () => end(child) };
}

function pairs(words: readonly string[]): string[] {
  return words.flatMap((word, index) =>
    index % 2 === 0 ? [`${word} ${words[index + 1] || '""'}`] : [],
  );
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
