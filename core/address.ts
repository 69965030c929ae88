import { OutriderError } from './errors.ts';

/** Where a process listens or whom it calls: a unix socket or a TCP port. */
export type Address =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** The kernel's bound on a unix socket's path, without the closing NUL (sockaddr_un). */
export const UNIX_PATH_MAX = 107;

/**
 * Reads `unix:/path`, `127.0.0.1:8788`, `[::1]:8788` or `host:8788`; port 0 means any free one.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function parseAddress(text: string): Address {
  if (text.startsWith('unix:')) return unixAddress(text.slice('unix:'.length));
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535) {
    throw new OutriderError(
      'CONFIG_INVALID',
      `"${text}" is not an address: write host:port, [ipv6]:port or unix:/path`,
    );
  }
  return { kind: 'tcp', host, port };
}

/** As `parseAddress` reads it. */
export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  return address.host.includes(':')
    ? `[${address.host}]:${address.port}`
    : `${address.host}:${address.port}`;
}

/** Whether only this machine can reach it. A name counts only if it is `localhost`. */
export function isLoopback(address: Address): boolean {
  if (address.kind === 'unix') return true;
  return (
    address.host === 'localhost' ||
    address.host === '::1' ||
    /^127(\.\d{1,3}){3}$/.test(address.host)
  );
}

/** The form that `net.listen` and `net.connect` take. */
export function socketOptions(address: Address): { path: string } | { host: string; port: number } {
  return address.kind === 'unix'
    ? { path: address.path }
    : { host: address.host, port: address.port };
}

function unixAddress(path: string): Address {
  if (!path.startsWith('/')) {
    throw new OutriderError('CONFIG_INVALID', `"unix:${path}" must have an absolute path`);
  }
  if (Buffer.byteLength(path) > UNIX_PATH_MAX) {
    throw new OutriderError(
      'CONFIG_INVALID',
      `the socket path ${path} is longer than ${UNIX_PATH_MAX} bytes: choose a shorter runtime directory`,
    );
  }
  return { kind: 'unix', path };
}
