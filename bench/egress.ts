import { forwarding } from './egress/forwarding.ts';
import { interception } from './egress/interception.ts';
import { path } from './egress/path.ts';
import { assertInstalled, assertTwoCores, CORES, pinSelf } from './egress/processes.ts';
import { reloads } from './egress/reloads.ts';
import { tunnels } from './egress/tunnels.ts';
import { weight } from './egress/weight.ts';
import type { Extent, Group, Wanted } from './group.ts';

/** One thing measured after another; only those run that have a figure which is wanted. */
const GROUPS: readonly Group[] = [forwarding, interception, path, tunnels, weight, reloads];

/**
 * The way out beside squid, nginx, haproxy, mitmproxy and http-proxy in one run: what is under test has a core of its own, everything
 * else the other. What cannot be measured is said, with what to do about it, and makes the command fail.
 */
export async function egressPart(wanted: Wanted, extent: Extent): Promise<Record<string, number>> {
  assertTwoCores();
  assertInstalled(['wrk', 'nginx', 'squid', 'haproxy', 'proxychains4']);
  pinSelf(CORES.rest);
  const figures: Record<string, number> = {};
  for (const group of GROUPS) {
    if (!group.figures.some(wanted)) continue;
    process.stderr.write(`measuring ${group.figures.filter(wanted).join(', ')}\n`);
    try {
      Object.assign(figures, await group.measure(wanted, extent));
    } catch (error) {
      process.stderr.write(
        `not measured: ${error instanceof Error ? error.message : String(error)}\n`,
      );
      process.exitCode = 1; // the others are still of use
    }
  }
  return { ...figures, ...ratios(figures) };
}

/** They hold on every machine; absolute figures are those of one. */
const RATIOS = {
  sidecar_over_squid: ['sidecar_cpu_us', 'squid_cpu_us'],
  sidecar_tls_over_mitmproxy: ['sidecar_tls_cpu_us', 'mitmproxy_cpu_us'],
  tunnel_over_squid: ['tunnel_mb_s', 'squid_tunnel_mb_s'],
  tunnel_relay_over_squid: ['tunnel_relay_mb_s', 'squid_tunnel_mb_s'],
  sidecar_rss_over_node: ['sidecar_rss_mib', 'empty_node_rss_mib'],
} as const;

function ratios(figures: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(RATIOS).flatMap(([name, [ours, theirs]]) => {
      const [a, b] = [figures[ours], figures[theirs]];
      return a === undefined || b === undefined ? [] : [[name, a / b]];
    }),
  );
}
