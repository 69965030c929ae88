import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import { packageRoot } from '#core/package-root';
import { processesNaming } from '../../test/support/processes.ts';
import { startRunnerMesh } from '../../test/support/runner-mesh.ts';
import type { Group } from '../group.ts';
import { quantile } from '../measure.ts';
import { BenchSidecar, HOSTS, policyText, projection } from './door.ts';
import { startSquid } from './peers.ts';
import { benchDirectory, CORES, freePorts, pin, run, start, Undo } from './processes.ts';

const ROUNDS = 9;
const MIB = 512;
const FILES = join(packageRoot, 'bench/egress');

/** A way to open one tunnel and to read from it. */
interface Way {
  readonly figure: string;
  readonly read: () => Promise<number>;
}

/**
 * Megabytes a second of one CONNECT tunnel from an origin to its client, with the proxy under test on a core of its own and origin and
 * client on the other: a sidecar, a sidecar behind the relay of a sandbox (both on that one core), and squid. In turns; medians.
 */
export const tunnels: Group = {
  figures: ['tunnel_mb_s', 'tunnel_relay_mb_s', 'squid_tunnel_mb_s'],
  async measure(wanted) {
    const directory = benchDirectory();
    const undo = new Undo();
    undo.add(() => rmSync(directory, { recursive: true, force: true }));
    try {
      const ways = [
        ...(await sidecarAndSquid(directory, undo)),
        ...(wanted('tunnel_relay_mb_s') ? [await throughRelay(undo)] : []),
      ];
      const samples = ways.map((): number[] => []);
      for (let round = 0; round <= ROUNDS; round++)
        for (const [index, { read }] of ways.entries()) {
          const rate = await read();
          if (round > 0) samples[index]?.push(rate);
        }
      return Object.fromEntries([
        ...ways.map(({ figure }, index) => [figure, quantile(samples[index] ?? [], 0.5)]),
        ['tunnel_rounds', ROUNDS],
      ]);
    } finally {
      await undo.all();
    }
  },
};

async function sidecarAndSquid(directory: string, undo: Undo): Promise<Way[]> {
  const [originPort = 0, doorPort = 0, squidPort = 0] = await freePorts(3);
  const proxy = join(directory, 'proxy.sock');
  await startOrigin(originPort, proxy, undo);
  const sidecar = await BenchSidecar.start(join(directory, 'sidecar'), `unix:${proxy}`);
  undo.add(() => sidecar.stop());
  await sidecar.attach(await projection(join(directory, 'policies')), doorPort);
  const seat = { directory: join(directory, 'squid'), port: squidPort };
  const squid = await startSquid({ ...seat, origin: { port: originPort, proxy } });
  undo.add(() => squid.process.stop());
  return [
    { figure: 'tunnel_mb_s', read: () => readFrom(doorPort, `${HOSTS.tunnel}:443`) },
    { figure: 'squid_tunnel_mb_s', read: () => readFrom(squidPort, `127.0.0.1:${originPort}`) },
  ];
}

async function startOrigin(port: number, proxy: string, undo: Undo): Promise<void> {
  const origin = await start(
    ['/usr/bin/python3', join(FILES, 'tunnel_origin.py'), String(port), proxy],
    { core: CORES.rest, listens: { kind: 'tcp', host: '127.0.0.1', port } },
  );
  undo.add(() => origin.stop());
}

async function readFrom(port: number, authority: string): Promise<number> {
  const client = ['/usr/bin/python3', join(FILES, 'tunnel_client.py')];
  return rateOf(await run([...client, String(port), authority, HOSTS.tunnel, String(MIB)]), '');
}

/** A sandbox of a real mesh, whose proxy is replaced by the origin; its agent, which is the relay, shares the sidecar's core. */
async function throughRelay(undo: Undo): Promise<Way> {
  const sandbox = '{timeout: 60s, memory: 256MiB, disk: 64MiB, concurrent: 4}';
  const policies = policyText().replace('sandbox: {}', `sandbox: ${sandbox}`);
  const mesh = await startRunnerMesh({ policies, built: true });
  undo.add(() => mesh.stop());
  await mesh.end('proxy', 'SIGKILL');
  const [port = 0] = await freePorts(1);
  const proxy = join(mesh.runtime, 'proxy.sock');
  rmSync(proxy, { force: true });
  await startOrigin(port, proxy, undo);
  pin(mesh.pid('sidecar'), CORES.subject);
  const code = readFileSync(join(FILES, 'tunnel_client.py'), 'utf8');
  const args = ['3128', `${HOSTS.tunnel}:443`, HOSTS.tunnel, String(MIB)];
  return {
    figure: 'tunnel_relay_mb_s',
    read: async () => {
      for (const { pid, argv } of processesNaming(mesh.sandboxes))
        if (argv.some((word) => word.endsWith('/agent.py'))) pin(pid, CORES.subject);
      const { stdout, stderr } = await mesh.client.run({ code, args, timeoutMs: 60_000 });
      return rateOf(stdout.toString(), stderr.toString());
    },
  };
}

function rateOf(stdout: string, stderr: string): number {
  const rate = Number(stdout.trim() || Number.NaN);
  if (!(rate > 0))
    throw new OutriderError('INTERNAL', `no bytes through a tunnel: ${stderr.slice(-500)}`);
  return rate;
}
