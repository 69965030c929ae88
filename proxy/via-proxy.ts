import { connect, type Socket } from 'node:net';

/** An HTTP proxy of the organisation's, between us and the internet. */
export interface UpstreamProxy {
  readonly host: string;
  readonly port: number;
  /** The value of `Proxy-Authorization`, asked for at each connection; undefined: none. */
  readonly authorization: () => string | undefined;
}

const HEAD_MAX_BYTES = 8_192;

/** Reads `http://host:port`. @throws {Error} saying what is expected */
export function parseUpstreamProxy(text: string): Pick<UpstreamProxy, 'host' | 'port'> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain = url && url.username === '' && url.password === '' && url.pathname === '/';
  if (!plain || url.protocol !== 'http:' || url.search !== '')
    throw new Error(
      'must be http://host:port, without a path; the password is a secret of its own',
    );
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 80 : Number(url.port),
  };
}

/**
 * A tunnel through the proxy to one address: the very one that was checked, so that the proxy resolves nothing.
 * @throws {Error} where it cannot be reached or refuses
 */
export function connectVia(
  proxy: UpstreamProxy,
  address: string,
  port: number,
  timeoutMs: number,
): Promise<Socket> {
  const authority = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
  const authorization = proxy.authorization();
  return new Promise((resolve, reject) => {
    const socket = connect({ host: proxy.host, port: proxy.port });
    const fail = (error: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    const timer = setTimeout(() => fail(new Error('no tunnel in time')), timeoutMs);
    let head = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0 && head.length <= HEAD_MAX_BYTES) return;
      const [line = ''] = head.toString('latin1', 0, Math.max(0, end)).split('\r\n');
      if (!/^HTTP\/1\.[01] 2\d\d( |$)/.test(line))
        return fail(new Error(`the upstream proxy said ${JSON.stringify(line.slice(0, 100))}`));
      clearTimeout(timer);
      socket.pause().off('data', onData).off('error', fail).off('close', onClose);
      const rest = head.subarray(end + 4);
      if (rest.length > 0) socket.unshift(rest);
      resolve(socket);
    };
    const onClose = (): void => fail(new Error('the upstream proxy closed the connection'));
    socket.on('data', onData).once('error', fail).once('close', onClose);
    socket.once('connect', () => {
      const lines = [
        `CONNECT ${authority} HTTP/1.1`,
        `Host: ${authority}`,
        ...(authorization === undefined ? [] : [`Proxy-Authorization: ${authorization}`]),
      ];
      socket.write(`${lines.join('\r\n')}\r\n\r\n`);
    });
  });
}
