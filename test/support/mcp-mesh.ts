import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { formatAddress, parseAddress } from '#core/address';
import { loadConfig } from '#core/config';
import { createKeySet } from '#core/keys';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { packageRoot } from '#core/package-root';
import { createGateway, gatewaySpec } from '#gateway';
import { mcpUrl, type Play, playRunner } from './plays-runner.ts';

const NODE_OPTIONS = ['--conditions=outrider-source', '--input-type=module'];
const SERVER =
  "import { main } from './server/main.ts'; process.exitCode = await main(process.argv.slice(1), process.env);";

/** A gateway and its servers on free ports, in front of a server that plays the runner. */
export interface McpMesh {
  readonly url: URL;
  readonly token: string;
  readonly tokenFile: string;
  /** The directory that is the state directory. */
  readonly state: string;
  /** Ends the process of one server without a word: SIGKILL. */
  readonly killServer: (index: number) => Promise<void>;
}

export async function startMcpMesh(t: TestContext, play: Play, servers = 1): Promise<McpMesh> {
  const root = mkdtempSync(join(tmpdir(), 'outrider-mcp-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const paths = { runtime: join(root, 'run'), state: root };
  createKeySet(join(paths.runtime, 'keys'));
  const token = randomBytes(32).toString('base64url');
  const tokenFile = join(root, 'token');
  writeFileSync(tokenFile, token, { mode: 0o600 });

  const runner = await playRunner(play);
  t.after(runner.close);
  const common = {
    listen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
    drainTimeout: 100,
  } as const;
  const started = await Promise.all(
    Array.from({ length: servers }, () => startServer(t, root, formatAddress(runner.address))),
  );
  const gateway = createGateway(
    {
      ...defaults('gateway', gatewaySpec(paths)),
      ...common,
      servers: started.map(({ url }) => url),
    },
    { log: silentLogger, metrics: new Metrics('gateway') },
  );
  const address = await gateway.start();
  t.after(() => gateway.stop());
  return {
    url: mcpUrl(address),
    token,
    tokenFile,
    state: root,
    killServer: async (index) => started[index]?.kill(),
  };
}

/** The MCP server as a process of its own, in the runtime directory `root`/run. */
async function startServer(t: TestContext, root: string, runner: string) {
  const child = spawn(
    process.execPath,
    [...NODE_OPTIONS, '-e', SERVER, '--', '--listen', '127.0.0.1:0', '--runner', runner],
    {
      cwd: packageRoot,
      env: { OUTRIDER_RUNTIME_DIR: join(root, 'run'), OUTRIDER_STATE_DIR: root },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  const ended = once(child, 'close');
  const kill = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  t.after(kill);
  let log = '';
  let address: string | undefined;
  while (address === undefined) {
    const [chunk]: unknown[] = await once(child.stderr, 'data');
    log += String(chunk);
    address = /"address":"([^"]+)"/.exec(log)?.[1];
  }
  return { url: mcpUrl(parseAddress(address)), kill };
}

function defaults<S extends Parameters<typeof loadConfig>[1]>(part: string, spec: S) {
  return loadConfig(part, spec, { argv: [], env: {} });
}
