import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
import { getPeers, type Peers } from '../../test/support/peers.ts';
import { freePort, waitFor } from '../../test/support/ports.ts';
import { BenchClient, median } from './client.ts';

const AT_ONCE = 16;
const ROUNDS = 3;
const ROUND_MS = 1_500;
const CHILD = [
  process.execPath,
  '--conditions=outrider-source',
  join(packageRoot, 'bench/gateway/stdio-backend.ts'),
];

const PROGRAMS = {
  supergateway_calls_per_s: (peers: Peers, port: number) => [
    peers.program('supergateway'),
    '--stdio',
    CHILD.join(' '),
    '--outputTransport',
    'streamableHttp',
    '--stateful',
    '--port',
    String(port),
    '--logLevel',
    'none',
  ],
  mcp_proxy_calls_per_s: (peers: Peers, port: number) => [
    peers.program('proxy'),
    '--port',
    String(port),
    '--host',
    '127.0.0.1',
    '--server',
    'stream',
    '--',
    ...CHILD,
  ],
} as const;

/** Calls in a second through the gateways of others, each before the same server on stdio, which is how they are used. */
export async function peersPart(): Promise<Record<string, number>> {
  const peers = getPeers(['supergateway', 'proxy']);
  try {
    const figures: Record<string, number> = {};
    for (const [figure, argv] of Object.entries(PROGRAMS)) {
      const port = await freePort();
      const child = spawn(process.execPath, argv(peers, port), { stdio: 'ignore' });
      try {
        figures[figure] = await rateAt(child, port);
      } finally {
        const exited = child.exitCode === null ? once(child, 'exit') : undefined;
        child.kill('SIGKILL');
        await exited;
      }
    }
    return figures;
  } finally {
    peers.remove();
  }
}

async function rateAt(child: ChildProcess, port: number): Promise<number> {
  await waitFor(port, child);
  const client = new BenchClient(port, undefined, AT_ONCE);
  try {
    await client.open();
    const rates: number[] = [];
    for (let round = 0; round < ROUNDS; round++) rates.push(await client.rate(AT_ONCE, ROUND_MS));
    return median(rates);
  } finally {
    await client.close();
  }
}
