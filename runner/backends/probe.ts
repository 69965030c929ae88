import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import type { Backend, Box } from './backend.ts';

const CONNECT_TIMEOUT_MS = 15_000;
const FRESH_MS = 5_000;
const LIMITS = { memoryBytes: 256 * 2 ** 20, cpuMillis: 1000, pids: 64, diskBytes: 2 ** 20 };
/** The user of a probe's box where this process is root: nobody. */
const NOBODY = 65_534;

let probes = 0;

export interface ProbeOptions {
  readonly start: Backend['start'];
  /** A probe makes its directory here. */
  readonly directory: string;
  /** What a person should do, where the failure's cause is one that is known; otherwise undefined. */
  readonly explain: (cause: unknown) => string | undefined;
}

/**
 * A `Backend.probe`: starts one box for real and waits for its agent to connect. However often it is asked, boxes are started one at
 * a time and not more than every 5 s.
 */
export function createProbe(options: ProbeOptions): Backend['probe'] {
  let last: { readonly at: number; readonly answer: Promise<string | undefined> } | undefined;
  return () => {
    if (!last || Date.now() - last.at > FRESH_MS)
      last = { at: Date.now(), answer: probeOnce(options) };
    return last.answer;
  };
}

async function probeOnce({ start, directory, explain }: ProbeOptions): Promise<string | undefined> {
  // The agent ends when its connection does: it is kept until the box was looked at.
  let agent: Socket | undefined;
  const server = createServer((socket) => {
    agent = socket.on('error', () => {});
  });
  const id = `probe-${process.pid}-${++probes}`;
  let own: string | undefined;
  let box: Box | undefined;
  try {
    own = mkdtempSync(join(directory, 'probe-'));
    chmodSync(own, 0o755);
    const path = join(own, 'control');
    const connected = new Promise<undefined>((resolve) => {
      server.once('connection', () => resolve(undefined));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o666);
    const uid = process.getuid?.() || NOBODY;
    const identity = { uid, gid: process.getuid?.() ? (process.getgid?.() ?? uid) : NOBODY };
    box = await start({ sandboxId: id, socketDirectory: own, identity, limits: LIMITS, image: '' });
    const made = box;
    const silent = made.ended.then(
      () => `the agent did not start: ${made.diagnostics() || 'is /usr/bin/python3 installed?'}`,
    );
    return await within(CONNECT_TIMEOUT_MS, 'the agent did not connect in time', [
      connected,
      silent,
    ]);
  } catch (error) {
    return explain(error instanceof OutriderError ? error.cause : error) ?? reasonOf(error);
  } finally {
    agent?.destroy();
    await box?.kill();
    server.close();
    if (own !== undefined) rmSync(own, { recursive: true, force: true });
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof OutriderError)) return 'a sandbox cannot be started: the log says why';
  const { code, message, cause } = error;
  if (code === 'BACKEND_UNAVAILABLE') return message; // it says what to do
  return cause instanceof Error && cause.message !== '' ? `${message}: ${cause.message}` : message;
}

async function within<T>(ms: number, late: T, work: readonly Promise<T>[]): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<T>((resolve) => {
    timer = setTimeout(() => resolve(late), ms);
  });
  try {
    return await Promise.race([...work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
