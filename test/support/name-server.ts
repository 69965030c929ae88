import { createSocket } from 'node:dgram';

/** Where it listens, in a network namespace of its own. */
export const NAME_SERVER = '127.0.0.1:5353';

/**
 * A name server (RFC 1035) that knows these names alone: the addresses of each, one list after the other, of which the last stays. Every
 * question is said; `ready` is called when it listens.
 */
export function answerNames(
  names: Readonly<Record<string, string[][]>>,
  say: (what: object) => void,
  ready: () => void,
): void {
  const dns = createSocket('udp4', (query, from) => {
    const labels: string[] = [];
    let at = 12;
    for (; query[at]; at += 1 + (query[at] ?? 0))
      labels.push(query.toString('latin1', at + 1, at + 1 + (query[at] ?? 0)));
    const name = labels.join('.');
    const isA = query.readUInt16BE(at + 1) === 1;
    const lists = names[name];
    const addresses = isA ? ((lists && lists.length > 1 ? lists.shift() : lists?.[0]) ?? []) : [];
    say({ asked: name, type: isA ? 'A' : 'other', answer: addresses });
    const records = addresses.map((address) =>
      Buffer.concat([
        Buffer.from([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]), // a TTL of 0: every look-up is a new one
        Buffer.from(address.split('.').map(Number)),
      ]),
    );
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(lists ? 0x8180 : 0x8183, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(records.length, 6);
    const answer = Buffer.concat([head, query.subarray(12, at + 5), ...records]);
    dns.send(answer, from.port, from.address);
  });
  const [address = '', port = ''] = NAME_SERVER.split(':');
  dns.bind(Number(port), address, ready);
}
