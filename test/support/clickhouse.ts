import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.ts';

/** A running ClickHouse server with one user, `outrider`. */
export interface ClickhouseServer {
  readonly url: string;
  readonly password: string;
  /** What a statement of the user answers, past any proxy. @throws {Error} with the server's words */
  readonly ask: (statement: string) => Promise<string>;
  readonly stop: () => Promise<void>;
}

const PASSWORD = 'pa55-of-clickhouse';

/** Starts `clickhouse-server` on a directory of its own. */
export async function startClickhouse(): Promise<ClickhouseServer> {
  const directory = mkdtempSync(join(tmpdir(), 'o-clickhouse-'));
  for (const name of ['data', 'tmp']) mkdirSync(join(directory, name));
  const [http, tcp] = [await freePort(), await freePort()];
  const config = join(directory, 'config.xml');
  writeFileSync(config, serverConfig(directory, http, tcp));
  writeFileSync(join(directory, 'users.xml'), USERS);
  const child = spawn('clickhouse-server', [`--config-file=${config}`], { stdio: 'ignore' });
  const url = `http://127.0.0.1:${http}`;
  const authorization = `Basic ${Buffer.from(`outrider:${PASSWORD}`).toString('base64')}`;
  const ask = async (statement: string): Promise<string> => {
    const answer = await fetch(url, {
      method: 'POST',
      body: statement,
      headers: { authorization },
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text);
    return text.trim();
  };
  const stop = async () => {
    await ended(child);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await answers(url, child);
  } catch (error) {
    await stop();
    throw error;
  }
  return { url, password: PASSWORD, ask, stop };
}

function serverConfig(directory: string, http: number, tcp: number): string {
  return `<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <http_port>${http}</http_port><tcp_port>${tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
  <path>${directory}/data/</path><tmp_path>${directory}/tmp/</tmp_path>
  <users_config>users.xml</users_config><default_profile>default</default_profile>
  <default_database>default</default_database><mark_cache_size>5368709</mark_cache_size>
</yandex>
`;
}

const USERS = `<yandex>
  <profiles><default><max_memory_usage>1000000000</max_memory_usage></default></profiles>
  <users><outrider>
    <password>${PASSWORD}</password><networks><ip>::/0</ip></networks>
    <profile>default</profile><quota>default</quota>
  </outrider></users>
  <quotas><default></default></quotas>
</yandex>
`;

async function answers(url: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error('clickhouse-server ended');
    const there = await fetch(`${url}/ping`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (there) return;
    if (Date.now() > deadline) throw new Error('clickhouse-server did not answer in time');
    await sleep(50);
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}
