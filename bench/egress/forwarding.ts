import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Group, Wanted } from '../group.ts';
import { compare, type Subject } from './compare.ts';
import { BenchSidecar, HOSTS, projection } from './door.ts';
import { wrk } from './load.ts';
import { startOrigin } from './origin.ts';
import { startHaproxy, startHttpProxy, startNginxPeer, startSquid } from './peers.ts';
import { benchDirectory, freePorts, Undo } from './processes.ts';

const CONNECTIONS = 32;
const PATH = '/v1/items?page=1';

const PEERS = {
  squid: startSquid,
  nginx: startNginxPeer,
  haproxy: startHaproxy,
  http_proxy: startHttpProxy,
} as const;

/**
 * Processor time of each proxy for one forwarded GET of 1 KiB, on a core of its own, over kept connections: ours with everything on
 * (decision, limits, token, audit), and what others have.
 */
export const forwarding: Group = {
  figures: ['sidecar_cpu_us', ...Object.keys(PEERS).map((name) => `${name}_cpu_us`)],
  async measure(wanted) {
    const directory = benchDirectory();
    const undo = new Undo();
    undo.add(() => rmSync(directory, { recursive: true, force: true }));
    try {
      return await compare(await startSubjects(directory, undo, wanted));
    } finally {
      await undo.all();
    }
  },
};

async function startSubjects(directory: string, undo: Undo, wanted: Wanted): Promise<Subject[]> {
  const [originPort = 0, doorPort = 0, ...ports] = await freePorts(2 + Object.keys(PEERS).length);
  const origin = await startOrigin(join(directory, 'origin'), originPort, undo);
  const subjects: Subject[] = [];
  if (wanted('sidecar_cpu_us')) {
    const sidecar = await BenchSidecar.start(join(directory, 'sidecar'), origin.proxy);
    undo.add(() => sidecar.stop());
    await sidecar.attach(await projection(join(directory, 'policies')), doorPort);
    const load = loadOf(directory, doorPort, HOSTS.plain);
    subjects.push({ name: 'sidecar', pid: sidecar.process.pid, load });
  }
  for (const [index, [name, startPeer]] of Object.entries(PEERS).entries()) {
    if (!wanted(`${name}_cpu_us`)) continue;
    const port = ports[index] ?? 0;
    const peer = await startPeer({ directory: join(directory, name), port, origin });
    undo.add(() => peer.process.stop());
    const load = loadOf(directory, port, peer.absolute ? `127.0.0.1:${originPort}` : undefined);
    subjects.push({ name, pid: peer.process.pid, load });
  }
  return subjects;
}

/** `host` where clients name the whole URL. */
function loadOf(directory: string, port: number, host: string | undefined): Subject['load'] {
  const url = `http://127.0.0.1:${port}${PATH}`;
  const named = host === undefined ? {} : { target: `http://${host}${PATH}`, host };
  return (seconds) => wrk({ directory, connections: CONNECTIONS, seconds, url, ...named });
}
