import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { listen } from '#core/http';
import { CORES, type Cores, type Started, start, type Undo } from './processes.ts';

/** What every proxy of the bench forwards to: nginx, which answers 1 KiB to everything. */
export interface Origin {
  /** On loopback: of the peers. */
  readonly port: number;
  /** The same as the proxy of a sidecar: it also stores audit records, as far as saying so goes. */
  readonly proxy: string;
}

export const BODY_BYTES = 1_024;

/** By default on the core of the clients. */
export async function startOrigin(
  directory: string,
  port: number,
  undo: Undo,
  core: Cores = CORES.rest,
): Promise<Origin> {
  mkdirSync(directory, { recursive: true });
  const [proxy, audit] = ['proxy.sock', 'audit.sock'].map((name) => join(directory, name));
  if (!proxy || !audit) throw new Error('both are named');
  undo.add(await acknowledgeAudit(audit));
  const file = join(directory, 'origin.conf');
  writeFileSync(
    file,
    nginxConf(
      directory,
      `
  upstream audit { server unix:${audit}; keepalive 4; }
  server {
    listen 127.0.0.1:${port} reuseport backlog=4096;
    listen unix:${proxy};
    location /.outrider/audit {
      proxy_pass http://audit;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
    location / { default_type text/plain; return 200 "${'x'.repeat(BODY_BYTES)}"; }
  }`,
    ),
  );
  const nginx = await startNginx(file, port, core);
  undo.add(() => nginx.stop());
  return { port, proxy: `unix:${proxy}` };
}

/** One process of nginx without logs, and connections that stay. */
export function nginxConf(directory: string, http: string): string {
  return `
daemon off; master_process off; worker_processes 1; user root;
pid ${join(directory, 'nginx.pid')}; error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; client_max_body_size 64m; sendfile off; tcp_nodelay on;
  client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxied; fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi; scgi_temp_path ${directory}/scgi;
${http}
}
`;
}

export function startNginx(file: string, port: number, core: Cores): Promise<Started> {
  return start(['nginx', '-c', file], { core, listens: { kind: 'tcp', host: '127.0.0.1', port } });
}

/** Says of every batch of audit records that it is stored, as the proxy would. */
async function acknowledgeAudit(path: string): Promise<() => void> {
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('end', () => {
      const line = body.slice(body.lastIndexOf('\n', body.length - 2) + 1, -1);
      const { writer, seq }: { writer?: unknown; seq?: unknown } = Object(JSON.parse(line));
      const hash = createHash('sha256').update(line, 'utf8').digest('hex');
      response.end(JSON.stringify({ acknowledged: { writer, seq, hash } }));
    });
  });
  server.keepAliveTimeout = 60_000;
  await listen(server, { kind: 'unix', path }, 0o600);
  return () => {
    server.closeAllConnections();
    server.close();
  };
}
