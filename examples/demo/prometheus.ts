import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OutriderError } from '#core/errors';
import { type Source, secretFile } from './source.ts';

const USER = 'outrider';
const DATA_WITHIN_MS = 30_000;
const STOP_WITHIN_MS = 5_000;
const BCRYPT_COST = 8;

/** Where the PATH has Prometheus. */
export function findPrometheus(path = ''): string | undefined {
  const candidates = path.split(delimiter).map((folder) => join(folder, 'prometheus'));
  return candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * A real Prometheus on 127.0.0.1 that demands a password and scrapes `targets` (part and `host:port`) every second. Its files are in a
 * directory of their own, gone with it.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE where it does not start
 */
export async function startPrometheus(
  program: string,
  port: number,
  state: string,
  targets: ReadonlyMap<string, string>,
): Promise<Source> {
  const password = secretFile(state, 'metrics-password', () =>
    randomBytes(24).toString('base64url'),
  );
  const directory = mkdtempSync(join(tmpdir(), 'outrider-prometheus-'));
  const file = (name: string, content: unknown) => {
    const path = join(directory, name);
    writeFileSync(path, JSON.stringify(content), { mode: 0o600 }); // JSON is YAML
    return path;
  };
  const config = file('prometheus.yml', {
    global: { scrape_interval: '1s', scrape_timeout: '900ms' },
    scrape_configs: [...targets].map(([job, target]) => ({
      job_name: job,
      static_configs: [{ targets: [target] }],
    })),
  });
  const web = file('web.yml', { basic_auth_users: { [USER]: bcrypt(password) } });
  const child = spawn(
    program,
    [
      `--config.file=${config}`,
      `--web.config.file=${web}`,
      `--web.listen-address=127.0.0.1:${port}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      '--storage.tsdb.retention.time=1h',
      '--log.level=warn',
    ],
    { cwd: directory, env: {}, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-4_096)));
  const basic = Buffer.from(`${USER}:${password}`).toString('base64');
  const stop = async () => {
    await end(child);
    rmSync(directory, { recursive: true, force: true });
  };
  const url = (query: string) =>
    `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(query)}`;
  const up = async (): Promise<number> => {
    const answer = await fetch(url('process_resident_memory_bytes'), {
      headers: { authorization: `Basic ${basic}` },
    }).catch(() => undefined);
    const body: unknown = answer?.ok ? await answer.json() : undefined;
    return Object(body).data?.result?.length ?? 0;
  };
  return {
    name: `${version(program)} on 127.0.0.1:${port}`,
    program: 'query_prometheus.py',
    rule: 'metrics-read',
    asked: url('up'),
    secrets: [password, basic],
    stop,
    async ready() {
      const deadline = Date.now() + DATA_WITHIN_MS;
      while ((await up()) < targets.size) {
        if (child.exitCode !== null || Date.now() > deadline)
          throw new OutriderError(
            'UPSTREAM_UNREACHABLE',
            `Prometheus has no data: ${lastLine(said) || `port ${port} does not answer`}`,
          );
        await sleep(100);
      }
      return `it scrapes ${[...targets.keys()].join(', ')} every second`;
    },
  };
}

/** As Prometheus wants it. crypt(3) of Perl's knows bcrypt; the password goes in by stdin, where no process list shows it. */
function bcrypt(password: string): string {
  const script = 'my $p = <STDIN>; my $s = <STDIN>; chomp($p, $s); print crypt($p, $s);';
  const salt = `$2b$${String(BCRYPT_COST).padStart(2, '0')}$${randomBytes(16).toString('hex').slice(0, 22)}`;
  const { stdout } = spawnSync('perl', ['-e', script], { input: `${password}\n${salt}\n` });
  const hash = String(stdout);
  if (/^\$2b\$\d\d\$[./A-Za-z0-9]{53}$/.test(hash)) return hash;
  throw new OutriderError(
    'UPSTREAM_UNREACHABLE',
    'perl, which Debian always has, is needed to hash the password of Prometheus',
  );
}

function version(program: string): string {
  const { stdout, stderr } = spawnSync(program, ['--version'], { encoding: 'utf8' });
  const number = /version (\d+\.\d+\.\d+)/.exec(`${stdout}${stderr}`)?.[1] ?? '';
  return `Prometheus ${number}`.trimEnd();
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
  await ended;
  clearTimeout(timer);
}

/** The message of its last log line, which is in logfmt. */
function lastLine(log: string): string {
  const line = log.trimEnd().split('\n').at(-1) ?? '';
  return /\berr="?([^"]+)"?/.exec(line)?.[1] ?? line;
}
