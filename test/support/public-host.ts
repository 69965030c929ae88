import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './mesh.ts';
import { NAME_SERVER } from './name-server.ts';

/** The host's address: a documentation range, which counts as public. */
export const HOST = '203.0.113.10';

/** One thing that the name server or the https server saw. */
export interface Said {
  readonly asked?: string;
  readonly connected?: string;
  readonly ready?: boolean;
  readonly request?: {
    readonly method: string;
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: string;
  };
}

/** A network namespace in which HOST is an https server, and a name server leads to it. */
export interface PublicHost {
  /** Put before a command that is to live in it. */
  readonly within: readonly string[];
  /** PEM: signed by itself for every name. */
  readonly certificate: string;
  readonly certificateFile: string;
  /** What makes a proxy ask the name server. */
  readonly env: Readonly<Record<string, string>>;
  readonly stop: () => Promise<void>;
}

/** Another server in place of the one that answers hello: a script, which is given certificate, key and names first, and then these. */
export interface Serving {
  readonly script: string;
  readonly argv: readonly string[];
}

const HELLO: Serving = { script: join(import.meta.dirname, 'public-host-server.ts'), argv: [] };

/**
 * Makes the namespace and starts both servers. `names`: what is answered for each name, one list after the other; the last one stays.
 * Needs root, iproute2, nsenter and openssl.
 */
export async function startPublicHost(
  names: Readonly<Record<string, readonly (readonly string[])[]>>,
  onSaid: (said: Said) => void,
  serving = HELLO,
): Promise<PublicHost> {
  const namespace = `outrider-${process.pid}`;
  const within = ['nsenter', `--net=/run/netns/${namespace}`];
  const directory = mkdtempSync(join(tmpdir(), 'o-tls-'));
  const undo: (() => unknown)[] = [() => rmSync(directory, { recursive: true, force: true })];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).toReversed()) await step();
  };
  try {
    run('ip', 'netns', 'add', namespace);
    undo.push(() => run('ip', 'netns', 'delete', namespace));
    run('ip', '-n', namespace, 'link', 'set', 'lo', 'up');
    run('ip', '-n', namespace, 'address', 'add', `${HOST}/32`, 'dev', 'lo');
    const [certificateFile, key] = makeCertificate(directory, Object.keys(names));
    const [program = '', ...words] = within;
    const given = [certificateFile, key, JSON.stringify(names), ...serving.argv];
    const argv = [process.execPath, serving.script, ...given];
    const server = spawn(program, [...words, ...argv], { stdio: ['ignore', 'pipe', 'inherit'] });
    undo.push(() => {
      const ended = once(server, 'exit');
      server.kill('SIGKILL');
      return ended;
    });
    let ready = false;
    let rest = '';
    server.stdout?.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const said: Said = JSON.parse(line);
        ready ||= said.ready === true;
        onSaid(said);
      }
    });
    await until('the host listens', () => ready);
    const certificate = readFileSync(certificateFile, 'utf8');
    const env = { OUTRIDER_PROXY_DNS_SERVERS: NAME_SERVER };
    return { within, certificate, certificateFile, env, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function makeCertificate(directory: string, names: readonly string[]): [string, string] {
  const [certificate, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const made = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2';
  const altNames = `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`;
  const subject = `/CN=${names[0] ?? ''}`;
  const files = ['-keyout', key, '-out', certificate];
  run('openssl', ...made.split(' '), '-subj', subject, '-addext', altNames, ...files);
  return [certificate, key];
}

function run(program: string, ...argv: readonly string[]): void {
  execFileSync(program, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
}
