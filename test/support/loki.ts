import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.ts';

/** A running Loki that keeps its tenants apart. */
export interface LokiServer {
  readonly url: string;
  /** Stores lines of one stream for a tenant, past any proxy. */
  readonly push: (
    tenant: string,
    labels: Readonly<Record<string, string>>,
    lines: readonly string[],
  ) => Promise<void>;
  readonly stop: () => Promise<void>;
}

/** Starts the program `binary` on a directory of its own. */
export async function startLoki(binary: string): Promise<LokiServer> {
  const directory = mkdtempSync(join(tmpdir(), 'o-loki-'));
  const [http, grpc] = [await freePort(), await freePort()];
  const config = join(directory, 'loki.yaml');
  writeFileSync(config, configuration(directory, http, grpc));
  const child = spawn(binary, [`-config.file=${config}`], { stdio: 'ignore' });
  const url = `http://127.0.0.1:${http}`;
  const stop = async () => {
    await ended(child);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await ready(url, child);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    stop,
    async push(tenant, stream, lines) {
      const now = BigInt(Date.now()) * 1_000_000n;
      const values = lines.map((line, index) => [String(now + BigInt(index)), line]);
      const answer = await fetch(`${url}/loki/api/v1/push`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-scope-orgid': tenant },
        body: JSON.stringify({ streams: [{ stream, values }] }),
      });
      if (!answer.ok) throw new Error(await answer.text());
    },
  };
}

function configuration(directory: string, http: number, grpc: number): string {
  return `auth_enabled: true
server:
  http_listen_address: 127.0.0.1
  http_listen_port: ${http}
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: ${grpc}
common:
  instance_addr: 127.0.0.1
  path_prefix: ${directory}
  storage: {filesystem: {chunks_directory: ${directory}/chunks, rules_directory: ${directory}/rules}}
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
ingester:
  lifecycler: {min_ready_duration: 0s}
schema_config:
  configs:
    - {from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}
analytics: {reporting_enabled: false}
`;
}

async function ready(url: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error('loki ended');
    const there = await fetch(`${url}/ready`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (there) return;
    if (Date.now() > deadline) throw new Error('loki did not answer in time');
    await sleep(100);
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}
