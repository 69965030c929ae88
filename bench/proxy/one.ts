import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
import type { LimitsSpec } from '#policies';
import { analystPolicies, loopbackDatasource } from '../../test/support/policies.ts';
import { type Proxies, startProxies } from '../../test/support/proxies.ts';
import { PROXY_CORE } from './wrk.ts';

const SECRET = 'bench-secret-of-thirty-two-chars';

/**
 * Proxies from `dist/` as they run for users, each on the proxy's core: `http/api` has a bearer credential, its rule a rate that
 * nothing here reaches; all is decided, counted, redacted and recorded.
 */
export function startBuiltProxies(
  count: number,
  upstreamPort: number,
  config: Readonly<Record<string, unknown>> = {},
  limits: LimitsSpec = { rate: '1000000/s', burst: 1_000_000 },
): Promise<Proxies> {
  const upstream = `http://127.0.0.1:${upstreamPort}`;
  const bearer = { auth: { type: 'bearer' }, secretRef: 'env:BENCH_SECRET' } as const;
  return startProxies({
    count,
    policies: analystPolicies(
      [{ id: 'api', datasource: 'http/api', limits }],
      [loopbackDatasource('http', 'api', upstream, bearer)],
    ),
    config,
    env: { BENCH_SECRET: SECRET },
    command: builtCommand(),
  });
}

/** The command line of Outrider from `dist/`, on the proxy's core. */
export function builtCommand(): string[] {
  const main = join(packageRoot, 'dist/cli/main.js');
  return ['taskset', '-c', `${PROXY_CORE}`, process.execPath, ...profiling(), main];
}

/** `--cpu-prof` of the bench itself is for its proxies. */
function profiling(): string[] {
  return process.execArgv.filter((option) => option.startsWith('--cpu-prof'));
}
