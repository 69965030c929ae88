import { forwarding } from './egress/forwarding.ts';
import { interception } from './egress/interception.ts';
import { path } from './egress/path.ts';
import { assertInstalled, assertTwoCores, CORES, pin } from './egress/processes.ts';
import { reloads } from './egress/reloads.ts';
import { tunnels } from './egress/tunnels.ts';
import { weight } from './egress/weight.ts';
import { type Extent, type Group, measureGroups, type Ratios, type Wanted } from './group.ts';

/** One thing measured after another; only those run that have a figure which is wanted. */
const GROUPS: readonly Group[] = [forwarding, interception, path, tunnels, weight, reloads];

const RATIOS: Ratios = {
  sidecar_over_squid: ['sidecar_cpu_us', 'squid_cpu_us'],
  sidecar_tls_over_mitmproxy: ['sidecar_tls_cpu_us', 'mitmproxy_cpu_us'],
  path_over_floor: ['path_added_p50_ms', 'path_floor_added_p50_ms'],
  tunnel_over_squid: ['tunnel_mb_s', 'squid_tunnel_mb_s'],
  tunnel_relay_over_squid: ['tunnel_relay_mb_s', 'squid_tunnel_mb_s'],
  sidecar_rss_over_node: ['sidecar_rss_mib', 'empty_node_rss_mib'],
};

/**
 * The way out beside squid, nginx, haproxy, mitmproxy and http-proxy in one run: what is under test has a core of its own, everything
 * else the other.
 */
export async function egressPart(wanted: Wanted, extent: Extent): Promise<Record<string, number>> {
  assertTwoCores();
  assertInstalled(['wrk', 'nginx', 'squid', 'haproxy', 'proxychains4']);
  pin(process.pid, CORES.rest);
  return measureGroups(GROUPS, wanted, extent, RATIOS);
}
