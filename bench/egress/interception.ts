import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Group } from '../group.ts';
import { compare, type Subject } from './compare.ts';
import { BenchSidecar, HOSTS, projection } from './door.ts';
import { wrk } from './load.ts';
import { startOrigin } from './origin.ts';
import { startMitmproxy } from './peers.ts';
import { benchDirectory, freePorts, Undo } from './processes.ts';

const CONNECTIONS = 32;

/**
 * The same where the proxy ends the program's TLS: a CONNECT, a handshake, then kept GETs of 1 KiB inside, plain HTTP behind. The client
 * is wrk, for which proxychains makes the CONNECT.
 */
export const interception: Group = {
  figures: ['sidecar_tls_cpu_us', 'mitmproxy_cpu_us'],
  async measure(wanted) {
    const directory = benchDirectory();
    const undo = new Undo();
    undo.add(() => rmSync(directory, { recursive: true, force: true }));
    try {
      const [originPort = 0, doorPort = 0, peerPort = 0] = await freePorts(3);
      const origin = await startOrigin(join(directory, 'origin'), originPort, undo);
      const subjects: Subject[] = [];
      if (wanted('sidecar_tls_cpu_us')) {
        const sidecar = await BenchSidecar.start(join(directory, 'sidecar'), origin.proxy);
        undo.add(() => sidecar.stop());
        await sidecar.attach(await projection(join(directory, 'policies')), doorPort);
        subjects.push(subjectOf('sidecar_tls', sidecar.process.pid, directory, doorPort));
      }
      if (wanted('mitmproxy_cpu_us')) {
        const seat = { directory: join(directory, 'mitmproxy'), port: peerPort, origin };
        const { process } = await startMitmproxy(seat);
        undo.add(() => process.stop());
        subjects.push(subjectOf('mitmproxy', process.pid, directory, peerPort));
      }
      return await compare(subjects);
    } finally {
      await undo.all();
    }
  },
};

function subjectOf(name: string, pid: number, directory: string, port: number): Subject {
  const chain = join(directory, `${name}.chain`);
  writeFileSync(
    chain,
    `strict_chain\nquiet_mode\nproxy_dns\n[ProxyList]\nhttp 127.0.0.1 ${port}\n`,
  );
  const within = ['proxychains4', '-q', '-f', chain];
  const url = `https://${HOSTS.seen}/v1/items?page=1`;
  const load = (seconds: number) =>
    wrk({ directory, connections: CONNECTIONS, seconds, url, within });
  return { name, pid, load };
}
