import { rmdirSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OutriderError } from '#core/errors';
import { listen } from '#core/http';
import type { Lifecycle } from '#core/lifecycle';
import { ensurePrivateDir } from '#core/runtime-dir';

/** What an owner says of itself to whoever connects: it serves a runner, or it clears up after one. */
const SERVING = 'serving';
const ENDING = 'ending';

/** An owner that is clearing up gives its boxes this long; one that has not gone by then may be anything. */
const CLEARED_WITHIN_MS = 15_000;
const LOOK_EVERY_MS = 50;

/**
 * Makes the directory this launcher's alone for as long as it lives, as the one that answers on `owner.sock` in it. One whose runner
 * is gone ends by itself and is waited for, for 15 s; one that serves a runner must lose nothing. The last thing that `lifecycle`
 * does is to give the directory up, and to remove it where nothing else is left in it.
 * @throws {OutriderError} ADDRESS_IN_USE, CONFIG_INVALID
 */
export async function ownDirectory(directory: string, lifecycle: Lifecycle): Promise<void> {
  const path = join(directory, 'owner.sock');
  const runner = process.ppid;
  const word = () => (lifecycle.stopping || process.ppid !== runner ? ENDING : SERVING);
  const server = await takeOver(directory, path, word);
  lifecycle.add('owner', () => {
    server.close(); // takes the socket away: from here on the directory may be another one's
    removeWhereEmpty(directory);
  });
}

async function takeOver(directory: string, path: string, word: () => string): Promise<Server> {
  const deadline = Date.now() + CLEARED_WITHIN_MS;
  for (;;) {
    ensurePrivateDir(directory, 0o711); // never somebody else's, and never a link to somewhere else
    const server = createServer((socket) => socket.on('error', () => {}).end(word()));
    try {
      await listen(server, { kind: 'unix', path });
      return server;
    } catch (cause) {
      const said = await wordOf(path, deadline);
      if (said === SERVING || Date.now() > deadline) throw inUse(directory, cause);
      await sleep(LOOK_EVERY_MS);
    }
  }
}

/** What the owner says; nothing where there is none, or it ends just now, or it has not answered by the deadline. */
function wordOf(path: string, deadline: number): Promise<string> {
  return new Promise((resolve) => {
    let said = '';
    const socket = connect(path);
    const late = setTimeout(() => socket.destroy(), Math.max(0, deadline - Date.now()));
    socket.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    socket.on('error', () => {}); // told by its close
    socket.on('close', () => {
      clearTimeout(late);
      resolve(said);
    });
  });
}

function inUse(directory: string, cause: unknown): OutriderError {
  return new OutriderError(
    'ADDRESS_IN_USE',
    `another runner uses ${directory}: give this one a runner.sandboxDirectory of its own`,
    { cause },
  );
}

/** It may be somebody's who chose it badly. */
function removeWhereEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {}
}
