import { join } from 'node:path';
import { address, bytes, type ConfigOf, choice, duration, list, text } from '#core/config';
import { drainNotice } from '#core/drain-notice';
import { keySetPaths } from '#core/keys';
import { meshUser } from '#core/mesh-user';

/** The configuration of the MCP server that we ship. `paths.runtime` holds the mesh's sockets and keys. */
export function serverSpec(paths: { readonly runtime: string; readonly state: string }) {
  const keys = keySetPaths(join(paths.runtime, 'keys'));
  const one = address('A runner');
  return {
    listen: address('Where gateways reach this server.', '127.0.0.1:8790'),
    runner: list(
      'The runners that execute programs; TCP addresses are spoken to without TLS.',
      one,
      [one.parse(`unix:${join(paths.runtime, 'runner.sock')}`)],
    ),
    assertionIssuers: text(
      'File with the public keys of those who may say who is calling: the gateways.',
      keys.assertionIssuers,
    ),
    maxBody: bytes('The largest request taken.', 2 * 2 ** 20, 1_024),
    drainNotice,
    drainTimeout: duration('How long calls may run on after a signal to stop.', 25_000),
    user: meshUser(),
    logLevel: choice('What is logged.', ['debug', 'info', 'warn', 'error'], 'info'),
  } as const;
}

export type ServerConfig = ConfigOf<ReturnType<typeof serverSpec>>;
