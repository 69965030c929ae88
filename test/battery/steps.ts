/** One thing that the program in the sandbox does with its connection; sender.py says what each means. Bytes are base64. */
export type Step =
  | { readonly connect: 'relay' | 'helper' | 'socket' }
  | { readonly open: string }
  | { readonly socks: string }
  | {
      readonly tls: {
        readonly name?: string | undefined;
        readonly alpn?: readonly string[];
        readonly verify?: boolean;
      };
    }
  | { readonly send: string; readonly times?: number; readonly every?: number | undefined }
  | { readonly pause: number }
  | { readonly hold: number }
  | {
      readonly crowd: {
        readonly count: number;
        readonly sends: readonly string[];
        readonly holdMs: number;
        /** Past the relay, to the door's own socket. */
        readonly direct?: boolean;
      };
    }
  | { readonly reset: true }
  | { readonly read: { readonly want: number; readonly last?: boolean } }
  | {
      readonly udp: {
        readonly host: string;
        readonly port: number;
        readonly payload: string;
        readonly tcp?: boolean;
      };
    };

/** What the program says afterwards. */
export interface Reply {
  readonly id: number;
  /** The status that CONNECT was answered with. */
  readonly opened: number | null;
  /** The reply of SOCKS5. */
  readonly reply: number | null;
  /** "ok", or why there is no TLS. */
  readonly tls: string | null;
  readonly error: string | null;
  /** Whether the other side ended the connection. */
  readonly eof: boolean;
  /** Bytes that came; `data` is the beginning of them. */
  readonly length: number;
  readonly data: string;
  /** Of many connections at once: how many were made, are open at the end, and were answered with TLS. */
  readonly crowd?: {
    readonly connected: number;
    readonly open: number;
    readonly handshakes: number;
  };
  readonly ms: number;
  /** Until the first byte came. */
  readonly firstMs?: number;
}

/** Connects, asks for a tunnel with these bytes, and goes on only if the answer is yes. */
export function opened(bytes: Buffer | string): Step[] {
  return [{ connect: 'relay' }, { open: Buffer.from(bytes).toString('base64') }];
}

/** The request of a client that behaves. */
export function connectHead(authority: string): string {
  return `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`;
}

/** Sends bytes and reads what comes: `want` whole answers, or with 0 whatever comes. */
export function exchanged(bytes: Buffer | string, want: number, every?: number): Step[] {
  return [{ send: Buffer.from(bytes).toString('base64'), every }, { read: { want } }];
}

/** A SOCKS5 request (RFC 1928, 4). */
export function socksRequest(command: number, type: number, address: Buffer, port: number): Buffer {
  const length = type === 3 ? [address.length] : [];
  return Buffer.concat([
    Buffer.from([5, command, 0, type, ...length]),
    address,
    Buffer.from([(port >> 8) & 0xff, port & 0xff]),
  ]);
}

/** The same to `host:port` as its text stands: a name where it is no address of IPv4. Undefined where SOCKS5 cannot say it. */
export function socksTo(authority: string): Buffer | undefined {
  const [, host = '', port = ''] = /^(.+):(0|[1-9]\d{0,4})$/s.exec(authority) ?? [];
  const name = Buffer.from(host, 'latin1');
  if (host === '' || host.startsWith('[') || name.length > 255 || Number(port) > 65_535)
    return undefined;
  // Anything else that looks like an address is a name to SOCKS5.
  const quad = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/.exec(
    host,
  );
  return quad
    ? socksRequest(1, 1, Buffer.from(quad.slice(1).map(Number)), Number(port))
    : socksRequest(1, 3, name, Number(port));
}
