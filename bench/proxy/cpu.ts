import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, until } from '../../test/support/redis.ts';
import type { Group } from '../group.ts';
import { startBuiltProxies } from './one.ts';
import { startUpstream } from './upstream.ts';
import { PROXY_CORE, type WrkOptions, wrk } from './wrk.ts';

const ROUNDS = 3;
const CONNECTIONS = 32;
/** Until then V8 is still compiling what runs often: what that costs belongs to no request. */
const WARM_REQUESTS = 60_000;
const WARM_SECONDS = 4;

/**
 * Processor time per request of 1 KiB: ours with the token verified before, decision, limits, audit, injection and redaction; squid's as
 * a plain forward proxy without cache or log. The same upstream and client, in turns; each figure is its quietest round.
 */
export const cpu: Group = {
  figures: ['proxy_cpu_us', 'squid_cpu_us', 'proxy_over_squid', 'proxy_rps'],
  async measure() {
    const upstream = await startUpstream();
    const squid = await startSquid();
    const proxies = await startBuiltProxies(1, upstream.port);
    try {
      const [ours] = proxies.each;
      if (!ours) throw new Error('no proxy');
      const round = async (seconds: number): Promise<[number, number, number]> => {
        const token = await proxies.token();
        const own = await cpuOf(ours.pid, {
          port: ours.port,
          target: 'http://http-api.outrider.internal/1k',
          headers: { Host: 'http-api.outrider.internal', 'Proxy-Authorization': `Bearer ${token}` },
          connections: CONNECTIONS,
          seconds,
        });
        const peer = await cpuOf(squid.pid, {
          port: squid.port,
          target: `http://127.0.0.1:${upstream.port}/1k`,
          headers: { Host: `127.0.0.1:${upstream.port}` },
          connections: CONNECTIONS,
          seconds,
        });
        return [own.us, peer.us, own.perSecond];
      };
      for (let warm = 0; warm < WARM_REQUESTS; ) {
        const [, , perSecond] = await round(WARM_SECONDS);
        warm += perSecond * WARM_SECONDS;
      }
      const rounds: [number, number, number][] = [];
      for (let at = 0; at < ROUNDS; at++) rounds.push(await round(6));
      const own = Math.min(...rounds.map(([us]) => us));
      const peer = Math.min(...rounds.map(([, us]) => us));
      return {
        proxy_cpu_us: own,
        squid_cpu_us: peer,
        proxy_over_squid: own / peer,
        proxy_rps: Math.max(...rounds.map(([, , rps]) => rps)),
      };
    } finally {
      await squid.stop();
      await proxies.stop();
      await upstream.stop();
    }
  },
};

async function cpuOf(pid: number, options: WrkOptions): Promise<{ us: number; perSecond: number }> {
  const before = cpuUs(pid);
  const { requests } = await wrk(options);
  return { us: (cpuUs(pid) - before) / requests, perSecond: requests / options.seconds };
}

/** User and system time of a process, all of its threads, in microseconds. */
function cpuUs(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1_000_000) / TICKS;
}

const TICKS = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** Debian's squid with its defaults for connections, in the foreground. @throws {Error} where it is not installed */
async function startSquid(): Promise<{ pid: number; port: number; stop: () => Promise<void> }> {
  const directory = mkdtempSync(join(tmpdir(), 'o-squid-'));
  chmodSync(directory, 0o755); // as root it becomes a user of its own
  const port = await freePort();
  const file = join(directory, 'squid.conf');
  const lines = [
    `http_port 127.0.0.1:${port}`,
    'http_access allow all',
    'cache deny all',
    'cache_mem 0 MB',
    'access_log none',
    'cache_log /dev/null',
    `cache_store_log none`,
    'pid_filename none',
    `coredump_dir ${directory}`,
    'shutdown_lifetime 0 seconds',
    'pinger_enable off',
    'memory_cache_shared off',
    'server_persistent_connections on',
    'client_persistent_connections on',
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  const child: ChildProcess = spawn(
    'taskset',
    ['-c', `${PROXY_CORE}`, 'squid', '-N', '-n', `o${port}`, '-f', file],
    { stdio: 'ignore' },
  );
  const failed = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('exit', () => reject(new Error('squid did not start: apt-get install squid')));
  });
  failed.catch(() => {});
  await Promise.race([until(() => accepts(port)), failed]);
  return {
    pid: child.pid ?? 0,
    port,
    async stop() {
      const gone = once(child, 'exit');
      child.kill('SIGTERM');
      await gone;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function accepts(port: number): Promise<boolean> {
  try {
    await fetch(`http://127.0.0.1:${port}/`);
    return true;
  } catch {
    return false;
  }
}
