import { chmodSync, lstatSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect, Server as NetServer } from 'node:net';
import { dirname } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { type Address, formatAddress, socketOptions } from './address.ts';
import { OutriderError, publicError, toOutriderError } from './errors.ts';
import type { HttpRequest, HttpResponse } from './http-exchange.ts';
import type { Metrics } from './metrics.ts';
import { createServer } from './node-http.ts';
import { pathOf } from './request-target.ts';
import { isShared } from './runtime-dir.ts';
import { pageBehind } from './web-page.ts';

/** One thing that a process depends on. `check` resolves to undefined when it is usable, otherwise to what a person should know. */
export interface ReadyCheck {
  readonly name: string;
  readonly check: () => Promise<string | undefined> | string | undefined;
}

const CHECK_TIMEOUT_MS = 2_000;

/**
 * `/livez` (200 while the process runs), `/readyz` (200, or 503 with what is missing), `/health` (as `/readyz`) and `/metrics`,
 * without authentication and without secrets. Returns false where the path is none of these. On loopback they are not for web pages:
 * one that says so is 403, and by a name that may be a page's own there are no metrics, and of a probe the status alone.
 * @throws {OutriderError} INVALID_REQUEST for two Host headers, ORIGIN_NOT_ALLOWED, HOST_NOT_ALLOWED
 */
export function adminRoutes(
  checks: readonly ReadyCheck[],
  metrics: Pick<Metrics, 'text'>,
  info: () => Record<string, unknown> = () => ({}),
) {
  return async (request: HttpRequest, response: HttpResponse): Promise<boolean> => {
    const path = pathOf(request);
    if (path !== '/livez' && path !== '/readyz' && path !== '/health' && path !== '/metrics')
      return false;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      answerError(response, new OutriderError('METHOD_NOT_ALLOWED', 'only GET and HEAD'));
      return true;
    }
    const page = pageBehind(request);
    if (page === 'origin') throw new OutriderError('ORIGIN_NOT_ALLOWED', 'this is for no web page');
    if (page === 'name' && path === '/metrics')
      throw new OutriderError('HOST_NOT_ALLOWED', 'ask at 127.0.0.1, [::1] or localhost');
    if (path === '/livez') answerJson(response, 200, { status: 'live' });
    else if (path === '/metrics') {
      const { type, body } = await metrics.text();
      response.writeHead(200, { 'content-type': type }).end(body);
    } else {
      const problems = await failingChecks(checks);
      const ready = Object.keys(problems).length === 0;
      answerJson(response, ready ? 200 : 503, {
        status: ready ? 'ready' : 'not ready',
        ...(ready || page ? {} : { problems }),
        ...(page ? {} : info()),
      });
    }
    return true;
  };
}

/** A server with nothing but the admin routes. */
export function createAdminServer(routes: ReturnType<typeof adminRoutes>): Server {
  return createServer((request, response) => {
    void routes(request, response).then(
      (answered) => {
        if (!answered) answerError(response, new OutriderError('NOT_FOUND', 'not found'));
      },
      (error: unknown) => answerError(response, error),
    );
  });
}

export function answerJson(
  response: HttpResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const text = `${JSON.stringify(body)}\n`;
  answerText(response, status, { type: 'application/json', text }, headers);
}

/** Answers with a text of a media type that no browser is to take for another, and that nobody keeps. */
export function answerText(
  response: HttpResponse,
  status: number,
  { type, text }: { readonly type: string; readonly text: string },
  headers: Record<string, string> = {},
): void {
  response
    .writeHead(status, {
      'content-type': type,
      'content-length': Buffer.byteLength(text),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...headers,
    })
    .end(text);
}

/** The one place where a thrown value becomes an HTTP answer. */
export function answerError(
  response: HttpResponse,
  thrown: unknown,
  headers: Record<string, string> = {},
): OutriderError {
  const error = toOutriderError(thrown);
  if (response.headersSent) response.destroy();
  else {
    const retry =
      error.retryAfterMs === undefined
        ? {}
        : { 'retry-after': String(Math.max(1, Math.ceil(error.retryAfterMs / 1000))) };
    answerJson(response, error.failure.http, publicError(error), { ...retry, ...headers });
  }
  return error;
}

/**
 * Listens, and resolves to the address that others can use (the real port where 0 was asked for). A unix socket gets mode
 * `socketMode`, by default 0600, and 0660 in a directory in which root and the mesh's user meet; one that a dead process left
 * behind is removed first.
 * @throws {OutriderError} ADDRESS_IN_USE
 */
export async function listen(
  server: NetServer,
  address: Address,
  socketMode?: number,
): Promise<Address> {
  if (address.kind === 'unix') await removeStaleSocket(address.path);
  return bind(server, address, socketMode);
}

/**
 * The same without a look at who has the socket: for the workers of one part, who share it (`node:cluster`).
 * @throws {OutriderError} ADDRESS_IN_USE
 */
export async function bind(
  server: NetServer,
  address: Address,
  socketMode?: number,
): Promise<Address> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const shown = formatAddress(address);
      const known: Record<string, string> = {
        EADDRINUSE: `${shown} is in use by another process`,
        EACCES: `this user may not listen on ${shown}`,
        EADDRNOTAVAIL: `this machine has no address ${shown}`,
      };
      reject(
        new OutriderError(
          error.code === 'EADDRINUSE' ? 'ADDRESS_IN_USE' : 'CONFIG_INVALID',
          known[error.code ?? ''] ?? `cannot listen on ${shown}`,
          { cause: error },
        ),
      );
    });
    server.listen(socketOptions(address), resolve);
  });
  if (address.kind === 'unix') chmodSync(address.path, socketMode ?? socketModeAt(address.path));
  const bound = server.address();
  return address.kind === 'tcp' && typeof bound === 'object' && bound !== null
    ? { ...address, port: bound.port }
    : address;
}

function socketModeAt(path: string): number {
  return isShared(dirname(path)) ? 0o660 : 0o600;
}

/**
 * Stops listening, lets running requests end for `graceMs`, then cuts what is left. Connections without a request are closed after
 * `idleMs`; one that gets a request meanwhile answers it and closes then, unless the answer itself says `connection: keep-alive`.
 * Where that is longer than clients keep idle connections, no request meets a connection that is being closed.
 */
export async function closeServer(server: Server, graceMs = 0, idleMs = 0): Promise<void> {
  server.prependListener('request', (_request, response: HttpResponse) => {
    response.shouldKeepAlive = false;
  });
  // Who is connected but not yet accepted would be cut off: a turn of the loop takes them in.
  await turn();
  const closed = new Promise<void>((resolve) => {
    // As net.Server does it: http.Server would close the idle connections at once.
    NetServer.prototype.close.call(server, () => resolve());
  });
  const idle = setTimeout(() => server.close(), idleMs);
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(idle);
  clearTimeout(timer);
  server.close(); // ends its checks of slow requests, which keep nothing alive but stay otherwise
}

/** What each check that fails says, by its name; one that does not answer within 2 s fails. */
export async function failingChecks(
  checks: readonly ReadyCheck[],
): Promise<Record<string, string>> {
  const results = await Promise.all(
    checks.map(async ({ name, check }) => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<string>((resolve) => {
        timer = setTimeout(() => resolve('no answer in time'), CHECK_TIMEOUT_MS);
      });
      try {
        return [name, await Promise.race([check(), late])] as const;
      } catch (error) {
        return [name, toOutriderError(error).message] as const;
      } finally {
        clearTimeout(timer);
      }
    }),
  );
  return Object.fromEntries(
    results.filter((result): result is [string, string] => result[1] !== undefined),
  );
}

/**
 * Removes a socket file that nobody listens on any more, and nothing that is not a socket.
 * @throws {OutriderError} ADDRESS_IN_USE where somebody listens, CONFIG_INVALID where another kind of file is there, or it is another user's
 */
export async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket())
    throw new OutriderError('CONFIG_INVALID', `${path} is there and is not a socket`);
  const alive = await accepts({ kind: 'unix', path });
  if (alive) throw new OutriderError('ADDRESS_IN_USE', `unix:${path} is in use by another process`);
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', `${path} is another user's: remove it`, {
      cause: error,
    });
  }
}

/** The same for each of the addresses that is a unix socket, while that can still be done for what root left. @throws {OutriderError} as above */
export async function removeStaleSockets(
  addresses: readonly (Address | undefined)[],
): Promise<void> {
  for (const address of addresses)
    if (address?.kind === 'unix') await removeStaleSocket(address.path);
}

/** Whether somebody takes connections at an address now. Never rejects. */
export function accepts(address: Address): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socketOptions(address), () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}
