import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { until } from '../support/mesh.ts';
import type { CanaryOrders, Sighting } from './canary.ts';
import type { Certificates } from './certificates.ts';

/** The origins and their name server, as a process. */
export interface Canary {
  /** All that they have seen so far. */
  readonly sightings: Sighting[];
  /** What they answer from now on. */
  readonly order: (orders: CanaryOrders) => Promise<void>;
  readonly stop: () => Promise<void>;
}

/** They answer at once. */
const SOON_MS = 3;

/** Starts canary.ts. `within`: put before its command. `names`: their addresses, all of which it listens on. */
export async function startCanary(
  within: readonly string[],
  certificates: Certificates,
  names: Readonly<Record<string, readonly string[]>>,
  ports: readonly number[],
): Promise<Canary> {
  const script = join(import.meta.dirname, 'canary.ts');
  const argv = [...certificates.usual, JSON.stringify(names), JSON.stringify(ports)];
  const [program = '', ...words] = [...within, process.execPath, script, ...argv];
  const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'inherit'] });
  const sightings: Sighting[] = [];
  const seen = new Set<number>();
  let ready = false;
  let rest = '';
  child.stdout.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const one: Sighting = JSON.parse(line);
      ready ||= one.ready === true;
      if (one.done !== undefined) seen.add(one.done);
      sightings.push(one);
    }
  });
  const stop = async (): Promise<void> => {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  };
  try {
    await until('the canaries listen', () => ready);
  } catch (error) {
    await stop();
    throw error;
  }
  let orders = 0;
  const order: Canary['order'] = async (what) => {
    const id = (orders += 1);
    child.stdin.write(`${JSON.stringify({ ...what, id })}\n`);
    await until('the canaries know', () => seen.has(id), undefined, SOON_MS);
  };
  return { sightings, order, stop };
}
