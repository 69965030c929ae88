import type { Group } from '../group.ts';
import { startBuiltProxies } from './one.ts';
import { startUpstream } from './upstream.ts';
import { type WrkOptions, wrk } from './wrk.ts';

const ROUNDS = 3;

/** What the proxy adds to a request of one client that waits for each answer: the median through it less that without it. */
export const added: Group = {
  figures: ['proxy_added_p50_ms', 'proxy_p50_ms', 'direct_p50_ms'],
  async measure() {
    const upstream = await startUpstream();
    const proxies = await startBuiltProxies(1, upstream.port);
    try {
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
      await wrk(await through()); // what is compiled at first is not measured
      const rounds: { direct: number; through: number }[] = [];
      for (let at = 0; at < ROUNDS; at++)
        rounds.push({
          direct: (await wrk(direct)).p50Ms,
          through: (await wrk(await through())).p50Ms,
        });
      const [straight, longer] = [
        Math.min(...rounds.map((round) => round.direct)),
        Math.min(...rounds.map((round) => round.through)),
      ];
      return {
        proxy_added_p50_ms: longer - straight,
        proxy_p50_ms: longer,
        direct_p50_ms: straight,
      };
    } finally {
      await proxies.stop();
      await upstream.stop();
    }
  },
};
