import { join } from 'node:path';
import { parseAddress } from '#core/address';
import { freePorts, start, Undo } from '../egress/processes.ts';
import type { Group } from '../group.ts';
import { startBuiltProxies } from './one.ts';
import { startUpstream } from './upstream.ts';
import { PROXY_CORE, type WrkOptions, wrk } from './wrk.ts';

const ROUNDS = 3;

/**
 * What the proxy adds to a request of one client that waits for each answer: the median through it less that without it. Most of that is the
 * machine's, which wakes one process for another: `proxy_floor_added_p50_ms` is what a process of Node adds on the same core that only
 * passes bytes on.
 */
export const added: Group = {
  figures: [
    'proxy_added_p50_ms',
    'proxy_floor_added_p50_ms',
    'proxy_added_over_floor',
    'proxy_p50_ms',
    'direct_p50_ms',
  ],
  async measure() {
    const undo = new Undo();
    try {
      const upstream = await startUpstream();
      undo.add(() => upstream.stop());
      const proxies = await startBuiltProxies(1, upstream.port);
      undo.add(() => proxies.stop());
      const [ours] = proxies.each;
      if (!ours) throw new Error('no proxy');
      const one = { connections: 1, seconds: 4 };
      const direct: WrkOptions = { ...one, port: upstream.port, target: '/1k' };
      const through = async (): Promise<WrkOptions> => ({
        ...one,
        port: ours.port,
        target: 'http://http-api.outrider.internal/1k',
        headers: {
          Host: 'http-api.outrider.internal',
          'Proxy-Authorization': `Bearer ${await proxies.token()}`,
        },
      });
      const floor: WrkOptions = { ...direct, port: await startFloor(upstream.port, undo) };
      for (const options of [await through(), floor]) await wrk(options); // what is compiled at first is not measured
      const rounds: { direct: number; floor: number; through: number }[] = [];
      for (let at = 0; at < ROUNDS; at++)
        rounds.push({
          direct: (await wrk(direct)).p50Ms,
          floor: (await wrk(floor)).p50Ms,
          through: (await wrk(await through())).p50Ms,
        });
      const least = (of: keyof (typeof rounds)[number]) =>
        Math.min(...rounds.map((round) => round[of]));
      const [straight, bare, longer] = [least('direct'), least('floor'), least('through')];
      return {
        proxy_added_p50_ms: longer - straight,
        proxy_floor_added_p50_ms: bare - straight,
        proxy_added_over_floor: (longer - straight) / (bare - straight),
        proxy_p50_ms: longer,
        direct_p50_ms: straight,
      };
    } finally {
      await undo.all();
    }
  },
};

/** A process that only passes bytes on, where the proxy runs; returns its port. */
async function startFloor(upstream: number, undo: Undo): Promise<number> {
  const [port = 0] = await freePorts(1);
  const [from, to] = [`127.0.0.1:${port}`, `127.0.0.1:${upstream}`];
  const pipe = join(import.meta.dirname, '../bare-pipe.ts');
  const argv = [process.execPath, '--conditions=outrider-source', pipe, from, to];
  const hop = await start(argv, { core: `${PROXY_CORE}`, listens: parseAddress(from) });
  undo.add(() => hop.stop());
  return port;
}
