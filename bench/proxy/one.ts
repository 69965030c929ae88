import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
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
  limits: Readonly<Record<string, unknown>> = { rate: '1000000/s', burst: 1_000_000 },
): Promise<Proxies> {
  const documents = [
    {
      kind: 'Role',
      metadata: { name: 'analyst' },
      spec: { members: [{ issuer: 'outrider:local' }], sandbox: { timeout: '10m' } },
    },
    { kind: 'Boundary', metadata: { name: 'org' }, spec: { mayLoopbackDatasources: true } },
    {
      kind: 'EgressPolicy',
      metadata: { name: 'analyst-egress' },
      spec: {
        subjects: [{ role: 'analyst' }],
        mode: 'enforce',
        allow: [{ id: 'api', datasource: 'http/api', limits }],
      },
    },
    {
      kind: 'Datasource',
      metadata: { name: 'api' },
      spec: {
        type: 'http',
        endpoint: `http://127.0.0.1:${upstreamPort}`,
        allowLoopback: true,
        auth: { type: 'bearer' },
        secretRef: 'env:BENCH_SECRET',
      },
    },
  ];
  return startProxies({
    count,
    policies: documents
      .map((one) => `---\n${JSON.stringify({ apiVersion: 'outrider/v1', ...one })}\n`)
      .join(''),
    config,
    env: { BENCH_SECRET: SECRET },
    command: [
      'taskset',
      '-c',
      `${PROXY_CORE}`,
      process.execPath,
      ...profiling(),
      join(packageRoot, 'dist/cli/main.js'),
    ],
  });
}

/** `--cpu-prof` of the bench itself is for its proxies. */
function profiling(): string[] {
  return process.execArgv.filter((option) => option.startsWith('--cpu-prof'));
}
