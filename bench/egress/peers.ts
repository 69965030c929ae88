import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nginxConf, type Origin, startNginx } from './origin.ts';
import { CORES, type Started, start } from './processes.ts';

/**
 * What others have for the same work, each as fast as it is set up by hand: connections kept on both sides, no cache, no log, one header
 * of the request written anew and a credential put in. None of them decides, limits, records or holds a token that changes.
 */
export interface Peer {
  readonly name: 'squid' | 'nginx' | 'haproxy' | 'http_proxy' | 'mitmproxy';
  readonly process: Started;
  readonly port: number;
  /** Whether its clients name the whole URL, as programs do that know of a proxy. */
  readonly absolute: boolean;
}

interface Seat {
  readonly directory: string;
  readonly port: number;
  readonly origin: Origin;
}

export async function startSquid({ directory, port }: Seat): Promise<Peer> {
  mkdirSync(directory, { recursive: true });
  chmodSync(directory, 0o777); // squid becomes a user of its own
  const file = join(directory, 'squid.conf');
  writeFileSync(
    file,
    `http_port 127.0.0.1:${port}
acl all_ports port 1-65535
http_access allow all
cache deny all
cache_mem 0 MB
access_log none
cache_log ${join(directory, 'cache.log')}
cache_store_log none
pid_filename ${join(directory, 'squid.pid')}
coredump_dir ${directory}
pinger_enable off
shutdown_lifetime 0 seconds
client_persistent_connections on
server_persistent_connections on
request_header_access Authorization deny all
request_header_add Authorization "Bearer bench" all
visible_hostname bench
`,
  );
  const listens = { kind: 'tcp', host: '127.0.0.1', port } as const;
  const process = await start(['squid', '-n', `bench${port}`, '-N', '-f', file], { listens });
  return { name: 'squid', process, port, absolute: true };
}

export async function startNginxPeer({ directory, port, origin }: Seat): Promise<Peer> {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'nginx.conf');
  writeFileSync(
    file,
    nginxConf(
      directory,
      `
  upstream origin { server 127.0.0.1:${origin.port}; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer bench";
    }
  }`,
    ),
  );
  const process = await startNginx(file, port, CORES.subject);
  return { name: 'nginx', process, port, absolute: false };
}

export async function startHaproxy({ directory, port, origin }: Seat): Promise<Peer> {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'haproxy.cfg');
  writeFileSync(
    file,
    `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend in
  bind 127.0.0.1:${port}
  http-request set-header Authorization "Bearer bench"
  default_backend out
backend out
  server origin 127.0.0.1:${origin.port}
`,
  );
  const listens = { kind: 'tcp', host: '127.0.0.1', port } as const;
  const process = await start(['haproxy', '-db', '-f', file], { listens });
  return { name: 'haproxy', process, port, absolute: false };
}

/** http-proxy of npm on the Node that runs this, with an agent that keeps connections; installed into `directory`. */
export async function startHttpProxy({ directory, port, origin }: Seat): Promise<Peer> {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'proxy.cjs');
  execFileSync(
    'npm',
    ['install', '--no-audit', '--no-fund', '--prefix', directory, 'http-proxy@1'],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  writeFileSync(
    file,
    `const { Agent, createServer } = require('node:http');
const proxy = require('http-proxy').createProxyServer({
  target: 'http://127.0.0.1:${origin.port}',
  agent: new Agent({ keepAlive: true, maxSockets: 64 }),
});
proxy.on('proxyReq', (request) => request.setHeader('authorization', 'Bearer bench'));
proxy.on('error', (_error, _request, response) => response.destroy());
createServer((request, response) => proxy.web(request, response)).listen(${port}, '127.0.0.1');
`,
  );
  const listens = { kind: 'tcp', host: '127.0.0.1', port } as const;
  const started = await start([process.execPath, file], { listens });
  return { name: 'http_proxy', process: started, port, absolute: false };
}

/**
 * mitmproxy of PyPI, which ends TLS as a sidecar does and speaks plain HTTP to the origin, as the sidecar does on its hop to the proxy;
 * installed into a virtual environment in `directory` unless \`mitmdump\` is on the path.
 */
export async function startMitmproxy({ directory, port, origin }: Seat): Promise<Peer> {
  mkdirSync(directory, { recursive: true });
  const addon = join(directory, 'plain.py');
  writeFileSync(
    addon,
    `def request(flow):
    flow.request.headers["authorization"] = "Bearer bench"
    flow.request.scheme, flow.request.host, flow.request.port = "http", "127.0.0.1", ${origin.port}
`,
  );
  const options = ['connection_strategy=lazy', 'upstream_cert=false', 'flow_detail=0'];
  const listens = { kind: 'tcp', host: '127.0.0.1', port } as const;
  const process = await start(
    [
      [mitmdump(directory), '-q', '--listen-host', '127.0.0.1', '-p', String(port)],
      ['--set', `confdir=${directory}`, '-s', addon],
      options.flatMap((option) => ['--set', option]),
    ].flat(),
    { listens },
  );
  return { name: 'mitmproxy', process, port, absolute: true };
}

function mitmdump(directory: string): string {
  const venv = join(directory, 'venv');
  const path = join(venv, 'bin/mitmdump');
  const onPath = (process.env['PATH'] ?? '')
    .split(':')
    .map((folder) => join(folder, 'mitmdump'))
    .find((file) => existsSync(file));
  if (onPath !== undefined) return onPath;
  execFileSync('python3', ['-m', 'venv', venv], { stdio: ['ignore', 'ignore', 'pipe'] });
  execFileSync(join(venv, 'bin/pip'), ['install', '-q', 'mitmproxy'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  return path;
}
