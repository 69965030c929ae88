import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createKeySet, readSigningKey } from '#core/keys';
import { LOCAL_PRINCIPAL, type Principal } from '#core/principal';
import { outriderArgv } from '#core/testing/outrider-argv';
import { AssertionSigner, AssertionVerifier, ExecutionSigner, publicIssuer } from '#core/tokens';
import { loadDirectory } from '#policystore';
import { analystPolicies, loopbackDatasource } from './policies.ts';
import { freePort } from './redis.ts';

/** Policies with which the role `analyst` may ask `http/api` on a port of this machine. */
export function apiPolicies(port: number): string {
  return analystPolicies(
    [{ id: 'api', datasource: 'http/api' }],
    [loopbackDatasource('http', 'api', `http://127.0.0.1:${port}`)],
    '2m',
  );
}

/** Proxies as processes of their own, with the same keys and policies, and what a runner makes to call them. */
export interface Proxies {
  readonly directory: string;
  readonly each: readonly ProxyProcess[];
  /** An execution token that all of them take. */
  readonly token: (change?: { sandboxId?: string; principal?: Principal }) => Promise<string>;
  readonly stop: () => Promise<void>;
}

export interface ProxyProcess {
  readonly pid: number;
  /** Where sidecars call. */
  readonly port: number;
  readonly adminPort: number;
  readonly socketPath: string;
  readonly state: string;
  readonly ask: (path: string, token: string, headers?: Record<string, string>) => Promise<Asked>;
}

export interface Asked {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

export interface ProxiesOptions {
  readonly count: number;
  /** One YAML file. */
  readonly policies: string;
  /** Of the section `proxy`, for each. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string>>;
  /** Called with the state directory of each, before it starts. */
  readonly prepare?: (state: string) => void;
  /** The role of the tokens. */
  readonly role?: string;
  /** What Node runs instead of the sources, and its options: the bench runs `dist/`. */
  readonly command?: readonly string[];
}

const OUTRIDER = [process.execPath, ...outriderArgv()];

export async function startProxies(options: ProxiesOptions): Promise<Proxies> {
  const directory = mkdtempSync(join(tmpdir(), 'o-proxies-'));
  const policies = join(directory, 'policies');
  mkdirSync(policies);
  writeFileSync(join(policies, 'policy.yaml'), options.policies);
  const keys = createKeySet(join(directory, 'keys'));
  const [runner, local] = [keys.runner, keys.local].map(readSigningKey);
  if (!runner || !local) throw new Error('both keys were made');
  const { digest } = await loadDirectory(policies);
  const started: { child: ChildProcess; one: ProxyProcess }[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(started.map(({ child }) => ended(child)));
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    for (let at = 0; at < options.count; at++)
      started.push(await startOne(directory, `p${at}`, policies, keys, options));
  } catch (error) {
    await stop();
    throw error;
  }
  const executions = new ExecutionSigner(runner);
  return {
    directory,
    each: started.map(({ one }) => one),
    stop,
    async token({ sandboxId = 'sbx-1', principal = LOCAL_PRINCIPAL } = {}) {
      const assertion = await new AssertionSigner(local).sign(principal);
      const { proof } = await new AssertionVerifier([publicIssuer(local)]).verify(assertion);
      const { jwt } = await executions.sign({
        sandboxId,
        execId: `exec-${sandboxId}`,
        role: options.role ?? 'analyst',
        policyDigest: digest,
        startedAt: Math.floor(Date.now() / 1_000),
        requestId: 'req-1',
        proof,
      });
      return jwt;
    },
  };
}

async function startOne(
  directory: string,
  name: string,
  policies: string,
  keys: ReturnType<typeof createKeySet>,
  { config = {}, env = {}, command = OUTRIDER, prepare = () => {} }: ProxiesOptions,
): Promise<{ child: ChildProcess; one: ProxyProcess }> {
  const own = join(directory, name);
  const state = join(own, 'state');
  mkdirSync(state, { recursive: true, mode: 0o700 });
  mkdirSync(join(own, 'run'), { mode: 0o700 });
  prepare(state);
  const [port, adminPort] = [await freePort(), await freePort()];
  const socketPath = join(own, 'run', 'proxy.sock');
  const file = join(own, 'config.yaml');
  const section = {
    policies,
    listen: `unix:${socketPath}`,
    tcp: `127.0.0.1:${port}`,
    admin: `127.0.0.1:${adminPort}`,
    'keys.assertionIssuers': keys.assertionIssuers,
    'keys.executionIssuers': keys.executionIssuers,
    ...config,
  };
  writeFileSync(file, JSON.stringify({ proxy: section }));
  const [program = '', ...argv] = command;
  const child = spawn(program, [...argv, 'proxy', '--config', file], {
    env: {
      PATH: process.env['PATH'],
      OUTRIDER_RUNTIME_DIR: join(own, 'run'),
      OUTRIDER_STATE_DIR: state,
      ...env,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await ready(child);
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const one: ProxyProcess = {
    pid: child.pid ?? 0,
    port,
    adminPort,
    socketPath,
    state,
    ask: (path, token, headers = {}) =>
      new Promise((resolve, reject) => {
        const sent = request(
          {
            host: '127.0.0.1',
            port,
            path,
            agent,
            headers: { 'proxy-authorization': `Bearer ${token}`, ...headers },
          },
          (response) => {
            const pieces: Buffer[] = [];
            response.on('data', (piece: Buffer) => pieces.push(piece));
            response.on('end', () =>
              resolve({
                status: response.statusCode ?? 0,
                headers: response.headers,
                body: Buffer.concat(pieces).toString(),
              }),
            );
            response.on('error', reject);
          },
        );
        sent.on('error', reject);
        sent.end();
      }),
  };
  return { child, one };
}

/** Waits for the line that says so; what a proxy says before it gives up is the error. */
async function ready(child: ChildProcess): Promise<void> {
  const lines: string[] = [];
  if (!child.stderr) throw new Error('it has no stderr');
  const reader = createInterface({ input: child.stderr });
  await new Promise<void>((resolve, reject) => {
    reader.on('line', (line) => {
      lines.push(line);
      if (line.includes('"msg":"ready"')) resolve();
    });
    child.once('exit', () => reject(new Error(`a proxy did not start: ${lines.join('\n')}`)));
    child.once('error', reject);
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  // One that hangs, as some tests make it, does not hear the first.
  const late = setTimeout(() => child.kill('SIGKILL'), 5_000);
  await gone;
  clearTimeout(late);
}
