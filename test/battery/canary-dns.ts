import { createSocket, type Socket } from 'node:dgram';
import { createServer } from 'node:net';

/** What one name answers. Addresses are asked for list by list: the last one stays. */
export interface NameAnswer {
  readonly lists: readonly (readonly string[])[];
  /** The name that it is another name for; its addresses follow in the same answer. */
  readonly cname?: string | undefined;
  readonly behaviour?: Behaviour | undefined;
}

/** How a name server can be wrong. */
export type Behaviour =
  | 'silent'
  | 'servfail'
  | 'refused'
  | 'nxdomain'
  | 'truncated'
  | 'wrong-id'
  | 'garbage'
  | 'empty'
  /** The name is another name of itself. */
  | 'loop'
  /** More addresses than anybody asked for. */
  | 'many';

/** As many as a message over TCP has room for. */
const MANY = 1_000;

export interface DnsCanary {
  /** In place of the fixtures' answer until `clear`. */
  set(name: string, answer: NameAnswer): void;
  clear(): void;
}

const TYPE = { a: 1, cname: 5, aaaa: 28 } as const;
const RCODE = { ok: 0, servfail: 2, nxdomain: 3, refused: 5 } as const;

/** A name server on 127.0.0.1, datagrams and connections, that tells of every question. TTLs are 0: each look-up is a new one. */
export async function startDns(
  port: number,
  known: (name: string) => readonly string[] | undefined,
  onAsked: (name: string, type: string) => void,
): Promise<DnsCanary> {
  const own = new Map<string, NameAnswer>();
  const turns = new Map<string, number>();
  const answer = (query: Buffer): Buffer | undefined => {
    const { name, type, end } = question(query);
    onAsked(name, type === TYPE.a ? 'A' : type === TYPE.aaaa ? 'AAAA' : String(type));
    const given = own.get(name);
    const fixed = known(name);
    const { lists, cname, behaviour } = given ?? { lists: fixed ? [fixed] : [] };
    if (behaviour === 'silent') return undefined;
    if (behaviour === 'garbage') return Buffer.from('not an answer');
    // A and AAAA are one look-up: both see the same list.
    const turn = turns.get(`${name} ${type}`) ?? 0;
    turns.set(`${name} ${type}`, turn + 1);
    const listed = lists[Math.min(turn, lists.length - 1)] ?? [];
    const led = listed.length === 0 && cname !== undefined ? (known(cname) ?? []) : listed;
    const addresses = behaviour === 'many' ? led.flatMap((one) => Array(MANY).fill(one)) : led;
    const fitting = addresses.filter((address) => address.includes(':') === (type === TYPE.aaaa));
    const records = type === TYPE.a || type === TYPE.aaaa ? fitting : [];
    const rcode =
      behaviour && behaviour in RCODE
        ? RCODE[behaviour as keyof typeof RCODE]
        : given || fixed
          ? RCODE.ok
          : RCODE.nxdomain;
    const sections =
      behaviour === 'empty' || rcode !== RCODE.ok
        ? []
        : answers(behaviour === 'loop' ? [] : records, type, behaviour === 'loop' ? name : cname);
    const head = Buffer.alloc(12);
    head.writeUInt16BE((query.readUInt16BE(0) + (behaviour === 'wrong-id' ? 1 : 0)) % 65_536, 0);
    head.writeUInt16BE(0x8180 + rcode + (behaviour === 'truncated' ? 0x200 : 0), 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(sections.length, 6);
    return Buffer.concat([head, query.subarray(12, end), ...sections]);
  };
  await Promise.all([listenUdp(port, answer), listenTcp(port, answer)]);
  return {
    set: (name, one) => {
      own.set(name, one);
      turns.clear();
    },
    clear: () => {
      own.clear();
      turns.clear();
    },
  };
}

function question(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (; query[at]; at += 1 + (query[at] ?? 0))
    labels.push(query.toString('latin1', at + 1, at + 1 + (query[at] ?? 0)));
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

function answers(addresses: readonly string[], type: number, cname: string | undefined): Buffer[] {
  const owner = cname === undefined ? Buffer.from([0xc0, 12]) : nameBytes(cname);
  const alias =
    cname === undefined ? [] : [record(Buffer.from([0xc0, 12]), TYPE.cname, nameBytes(cname))];
  return [...alias, ...addresses.map((address) => record(owner, type, addressBytes(address)))];
}

function record(owner: Buffer, type: number, data: Buffer): Buffer {
  const fixed = Buffer.from([0, type, 0, 1, 0, 0, 0, 0, 0, data.length]);
  return Buffer.concat([owner, fixed, data]);
}

function nameBytes(name: string): Buffer {
  const labels = name
    .split('.')
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([...labels, Buffer.from([0])]);
}

function addressBytes(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  const dotted = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_all, ...parts: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = parts.slice(0, 4).map(Number);
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  });
  const [left = '', right = ''] = dotted.split('::');
  const [first, last] = [left, right].map((half) => half.split(':').filter(Boolean));
  const zeros = Array.from({ length: 8 - (first?.length ?? 0) - (last?.length ?? 0) }, () => '0');
  const groups = [...(first ?? []), ...zeros, ...(last ?? [])].map((group) =>
    Number.parseInt(group, 16),
  );
  return Buffer.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

function listenUdp(port: number, answer: (query: Buffer) => Buffer | undefined): Promise<Socket> {
  const socket = createSocket('udp4', (query, from) => {
    const said = answer(query);
    if (said) socket.send(said, from.port, from.address);
  });
  return new Promise((resolve) => socket.bind(port, '127.0.0.1', () => resolve(socket)));
}

function listenTcp(port: number, answer: (query: Buffer) => Buffer | undefined): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      const said = answer(bytes.subarray(2));
      if (!said) return;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(said.length);
      socket.write(Buffer.concat([length, said]));
    });
  });
  return new Promise((resolve) => void server.listen(port, '127.0.0.1', () => resolve()));
}
