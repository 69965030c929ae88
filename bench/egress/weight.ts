import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { uidOf } from '#core/mesh-user';
import { ensureRuntimeDir } from '#core/runtime-dir';
import type { Group } from '../group.ts';
import { quantile, rssMib } from '../measure.ts';
import { BenchSidecar, projection } from './door.ts';
import { startOrigin } from './origin.ts';
import { benchDirectory, freePorts, type Started, start, Undo } from './processes.ts';

const STARTS = 11;
const ATTACHMENTS = 100;
const IDLE_MS = 1_500;
const EMPTY_SERVER = (port: number): string =>
  `require('node:http').createServer((q, r) => r.end()).listen(${port}, '127.0.0.1')`;

/**
 * What a sidecar process weighs that waits for its sandbox, as the runner starts one for each, beside a Node process whose HTTP server nobody uses; what each further attachment adds,
 * of a process that serves many, bound to an exec whose policy looks into TLS; and how long it takes from the command until it accepts its runner. Memory is the
 * least of the samples, time their median.
 */
export const weight: Group = {
  figures: ['sidecar_rss_mib', 'empty_node_rss_mib', 'attachment_mib', 'sidecar_start_ms'],
  async measure() {
    const directory = benchDirectory();
    const undo = new Undo();
    undo.add(() => rmSync(directory, { recursive: true, force: true }));
    try {
      const [originPort = 0, emptyPort = 0] = await freePorts(2);
      const origin = await startOrigin(join(directory, 'origin'), originPort, undo);
      const samples = { starts: [] as number[], sidecar: [] as number[], empty: [] as number[] };
      for (let round = 0; round <= STARTS; round++) {
        const [sidecar, ms] = await startBare(join(directory, `s${round}`), origin.proxy);
        const listens = { kind: 'tcp', host: '127.0.0.1', port: emptyPort } as const;
        const empty = await start([process.execPath, '-e', EMPTY_SERVER(emptyPort)], { listens });
        await sleep(IDLE_MS);
        if (round > 0) {
          samples.starts.push(ms); // the first fills the compile cache
          samples.sidecar.push(rssOf(sidecar));
          samples.empty.push(rssOf(empty));
        }
        await Promise.all([sidecar.stop(), empty.stop()]);
      }
      return {
        sidecar_rss_mib: Math.min(...samples.sidecar),
        empty_node_rss_mib: Math.min(...samples.empty),
        attachment_mib: await attachmentMib(directory, origin.proxy, undo),
        attachment_count: ATTACHMENTS,
        sidecar_start_ms: quantile(samples.starts, 0.5),
        sidecar_start_max_ms: Math.max(...samples.starts),
        sidecar_starts: STARTS,
      };
    } finally {
      await undo.all();
    }
  },
};

/** A sidecar as the runner starts it for one sandbox, ready for its runner, and how long that took. */
async function startBare(directory: string, proxy: string): Promise<[Started, number]> {
  ensureRuntimeDir(directory, uidOf('auto'));
  const from = performance.now();
  const started = await start(BenchSidecar.ownArgv(directory, proxy), {
    env: BenchSidecar.environment(directory),
    listens: { kind: 'unix', path: join(directory, 'sidecar.sock') },
  });
  return [started, performance.now() - from];
}

async function attachmentMib(directory: string, proxy: string, undo: Undo): Promise<number> {
  const sidecar = await BenchSidecar.start(join(directory, 'sidecar'), proxy);
  undo.add(() => sidecar.stop());
  const bound = await projection(join(directory, 'policies'));
  const attach = async (count: number): Promise<void> => {
    for (let done = 0; done < count; done++) await sidecar.attach(bound);
  };
  await attach(10); // the first bring code with them
  await sleep(IDLE_MS);
  const before = rssOf(sidecar.process);
  await attach(ATTACHMENTS);
  await sleep(IDLE_MS);
  return (rssOf(sidecar.process) - before) / ATTACHMENTS;
}

function rssOf({ pid }: Started): number {
  return rssMib(readFileSync(`/proc/${pid}/status`, 'utf8'));
}
