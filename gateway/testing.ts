import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type Address, formatAddress } from '#core/address';
import { loadConfig } from '#core/config';
import { closeServer, listen } from '#core/http';
import { createKeySet } from '#core/keys';
import { type Logger, silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { temporaryDirectory } from '#core/testing/directory';
import { type GatewayConfig, gatewaySpec } from './config.ts';
import { createGateway } from './server.ts';

export { temporaryDirectory };

const FREE_PORT: Address = { kind: 'tcp', host: '127.0.0.1', port: 0 };

/** An HTTP server on a free port; resolves to its URL, without a path. */
export async function startHttp(
  t: TestContext,
  handler: (request: IncomingMessage, response: ServerResponse) => Promise<void> | void,
): Promise<string> {
  const server = createServer((request, response) => void handler(request, response));
  const address = await listen(server, FREE_PORT);
  t.after(() => closeServer(server));
  return `http://${formatAddress(address)}`;
}

/** The text of a file with a new key for each of `kids`. */
export function sessionKeys(...kids: readonly string[]): string {
  const keys = kids.map((kid) => ({ kid, key: randomBytes(32).toString('base64') }));
  return JSON.stringify({ keys });
}

/** Defaults for tests: keys and a local token in a directory of their own, a free port. */
export function gatewayConfig(
  t: TestContext,
  over: Partial<GatewayConfig> = {},
): { config: GatewayConfig; token: string; assertionIssuers: string; root: string } {
  const root = temporaryDirectory(t);
  const keys = createKeySet(join(root, 'keys'));
  const token = randomBytes(32).toString('base64url');
  writeFileSync(join(root, 'token'), token, { mode: 0o600 });
  mkdirSync(join(root, 'gateway'));
  writeFileSync(join(root, 'gateway/session-keys.json'), sessionKeys('test'), { mode: 0o600 });
  const spec = gatewaySpec({ runtime: root, state: root });
  const defaults = loadConfig('gateway', spec, { argv: [], env: {} });
  return {
    config: { ...defaults, listen: FREE_PORT, drainTimeout: 50, ...over },
    token,
    assertionIssuers: keys.assertionIssuers,
    root,
  };
}

/** A running gateway before `servers` (origins; their MCP path is /mcp). */
export async function startGateway(
  t: TestContext,
  servers: readonly string[],
  over: Partial<GatewayConfig> = {},
  log: Logger = silentLogger,
) {
  const made = gatewayConfig(t, { servers: servers.map((url) => new URL('/mcp', url)), ...over });
  const gateway = createGateway(made.config, {
    log,
    metrics: new Metrics('gateway'),
  });
  const address = await gateway.start();
  t.after(() => gateway.stop());
  return {
    ...made,
    origin: `http://${formatAddress(address)}`,
    authorization: `Bearer ${made.token}`,
    /** With the same configuration but for `changed`. */
    reload: (changed: Partial<GatewayConfig>) => gateway.reload({ ...made.config, ...changed }),
    stop: () => gateway.stop(),
  };
}
