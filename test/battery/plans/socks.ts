import { isIP } from 'node:net';
import { CaseUnusable, type Fields, numberOf, textOf } from '../case.ts';
import type { Planner } from '../plan.ts';
import { type Step, socksRequest } from '../steps.ts';

/** A SOCKS5 request, byte for byte as the fields say. */
export const socks5: Planner = ({ send }) => {
  const domain = textOf(send, 'domain');
  const hex = textOf(send, 'domain_hex') ?? textOf(send, 'addr_hex');
  const address =
    hex === undefined
      ? Buffer.from(domain ?? '', 'latin1')
      : Buffer.from(hex.replaceAll(/[\s:]/g, ''), 'hex');
  const type =
    numberOf(send, 'atyp') ??
    (textOf(send, 'addr_hex') === undefined ? 3 : address.length === 16 ? 4 : 1);
  const request = socksRequest(commandOf(send), type, address, numberOf(send, 'port') ?? 443);
  const steps: Step[] = [
    { connect: 'relay' },
    { socks: request.toString('base64') },
    { read: { want: 0 } },
  ];
  return [{ mode: 'socks5', form: 'tunnel', native: true, steps, timeoutMs: 8_000 }];
};

const COMMANDS: Readonly<Record<string, number>> = {
  connect: 1,
  bind: 2,
  udp: 3,
  'udp-associate': 3,
};

/** By its number, or by its name in RFC 1928. */
function commandOf(send: Fields): number {
  const said = send['cmd'];
  const name = typeof said === 'string' ? said.toLowerCase().replace(/[ _]/, '-') : '';
  return COMMANDS[name] ?? numberOf(send, 'cmd') ?? 1;
}

/** Past the door: datagrams, and connections to the same port. */
export const udp: Planner = ({ send }) => {
  const [, host = '', port = ''] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(textOf(send, 'dst') ?? '') ?? [];
  if (isIP(host) === 0) throw new CaseUnusable('dst is no address and port');
  const payload = Buffer.from(textOf(send, 'payload') ?? 'x').toString('base64');
  return [false, true].map((tcp) => ({
    mode: tcp ? 'tcp' : 'udp',
    form: 'datagram',
    native: true,
    steps: [{ udp: { host, port: Number(port), payload, tcp } }],
  }));
};
