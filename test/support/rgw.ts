import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sigv4 } from '#proxy';
import { freePort } from './free-port.ts';

/** A running Ceph RGW with one user and one bucket. */
export interface Rgw {
  readonly url: string;
  /** `<access key id>:<secret access key>`. */
  readonly secret: string;
  /** A request signed with the user's own key, past any proxy. */
  readonly ask: (method: string, path: string) => Promise<Response>;
  readonly stop: () => Promise<void>;
}

const USER = { accessKeyId: 'AKIAOUTRIDERREAL', secretAccessKey: 'real/secret+key0123456789' };

/**
 * Starts the radosgw of a system that was unpacked into `root` (`.ci/run` does it), on its own store. It verifies every signature: of
 * requests, of chunks, and of trailers. Needs root.
 */
export async function startRgw(root: string, bucket: string): Promise<Rgw> {
  const directory = mkdtempSync(join(root, 'rgw-'));
  const inside = `/${basename(directory)}`;
  const port = await freePort();
  const config = join(directory, 'ceph.conf');
  writeFileSync(config, configuration(inside, port));
  const argv = (name: string) => [root, name, '-c', `${inside}/ceph.conf`, '-n', 'client.rgw'];
  const user = [
    ['--uid=outrider', '--display-name=outrider'],
    [`--access-key=${USER.accessKeyId}`, `--secret-key=${USER.secretAccessKey}`],
  ].flat();
  createUser([...argv('radosgw-admin'), '--no-mon-config', 'user', 'create', ...user]);
  const child = spawn('chroot', [...argv('radosgw'), '--no-mon-config', '-d'], { stdio: 'ignore' });
  const url = `http://127.0.0.1:${port}`;
  const ask = (method: string, path: string) => signedFetch(url, method, path);
  const stop = async () => {
    await ended(child);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await answers(url, child);
    const made = await ask('PUT', `/${bucket}`);
    if (!made.ok) throw new Error(`the bucket was not made: ${await made.text()}`);
  } catch (error) {
    await stop();
    throw error;
  }
  return { url, secret: `${USER.accessKeyId}:${USER.secretAccessKey}`, ask, stop };
}

/** It takes a tenth of a second, and once in a while it never ends, with the user made or not: the bucket that is made next tells. */
function createUser(argv: readonly string[]): void {
  for (let left = 5; ; left--) {
    const { status, error } = spawnSync('chroot', argv, { stdio: 'ignore', timeout: 10_000 });
    if (status === 0 || (left < 5 && status !== null)) return;
    if (left === 1 || status !== null)
      throw error ?? new Error(`radosgw-admin ended with ${status}`);
  }
}

function configuration(inside: string, port: number): string {
  return `[global]
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
mon_host = 127.0.0.1:1
[client]
rgw_backend_store = dbstore
rgw_config_store = dbstore
dbstore_db_dir = ${inside}
dbstore_config_uri = file:${inside}/config.db
rgw_frontends = beast endpoint=127.0.0.1:${port}
rgw_data = ${inside}
run_dir = ${inside}
admin_socket =
log_file =
rgw_enable_ops_log = false
rgw_enable_usage_log = false
rgw_run_sync_thread = false
`;
}

function signedFetch(url: string, method: string, path: string): Promise<Response> {
  const scope = { time: sigv4.awsTime(Date.now()), region: 'us-east-1', service: 's3' };
  const payload = sigv4.EMPTY_SHA256;
  const headers = [
    ['host', new URL(url).host],
    ['x-amz-content-sha256', payload],
    ['x-amz-date', scope.time],
  ] as const;
  const parts = { method, path, normalize: false, query: [], headers, payload };
  return fetch(`${url}${path}`, {
    method,
    headers: {
      ...Object.fromEntries(headers.slice(1)),
      authorization: sigv4.authorization(parts, scope, USER),
    },
  });
}

async function answers(url: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error('radosgw ended');
    const there = await fetch(url).then(
      () => true,
      () => false,
    );
    if (there) return;
    if (Date.now() > deadline) throw new Error('radosgw did not answer in time');
    await sleep(50);
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL'); // it takes its time otherwise, and nobody needs its store
  await gone;
}
