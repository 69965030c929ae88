import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type TestContext, test } from 'node:test';
import type { HttpRequest } from '../http-exchange.ts';
import { PlainHeads } from './plain-head.ts';
import { get, type Lane, post, type Served, served } from './testing/plain.ts';

// Whatever is taken as plain must be what llhttp reads: the same bytes go to a server with the lane and to one without.

const FIELD = (line: string): string => get('/', line);

/** What both read alike; whether the lane takes it. */
const CASES: readonly (readonly [what: string, isPlain: boolean, text: string])[] = [
  ['a path', true, get('/a/b?c=d&e')],
  ['every character of a target', true, get("/~a-b._!$&'()*+,;=:@%20/?/?%zz")],
  ['an absolute target', true, get('http://a.test:80/x')],
  ['a target of an IPv6 address', true, get('http://[::1]:8080/x')],
  ['two slashes', true, get('//a//b')],
  ['dots', true, get('/../a/./b')],
  ...['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].map(
    (method) => [method, true, get('/').replace('GET', method)] as const,
  ),
  ['a body', true, post('/', 'abc')],
  ['a body to GET', true, post('/', 'abc').replace('POST', 'GET')],
  ['a body of bytes', true, post('/', '\0\r\n\r\n\xff')],
  ['a body that looks like a request', true, post('/', get('/other'))],
  ['no body, and its length', true, FIELD('Content-Length: 0')],
  ['no space before a value', true, FIELD('a:b')],
  ['tabs before a value', true, FIELD('a:\t \tb')],
  ['space and colons within a value', true, FIELD('a: b \t: c')],
  ['no value', true, FIELD('a:')],
  ['bytes beyond ASCII in a value', true, FIELD('a: \x80\xff\xe9')],
  ['every character of a name', true, FIELD("!#$%&'*+-.^_`|~09azAZ: b")],
  ['Connection: close', true, FIELD('Connection: Close')],
  ['Connection: keep-alive', true, FIELD('Connection: Keep-Alive')],
  [
    'Connection: keep-alive and close',
    true,
    get('/', 'Connection: keep-alive', 'connection: close'),
  ],
  ['two of what is joined', true, get('/', 'a: 1', 'A: 2', 'cookie: 3', 'Cookie: 4')],
  [
    'two of what is not joined',
    true,
    get('/', 'age: 1', 'Age: 2', 'Authorization: 1', 'authorization: 2', 'user-agent:'),
  ],
  [
    'two of everything that has a rule of its own',
    true,
    get(
      '/',
      ...`content-type etag expires from if-modified-since if-unmodified-since last-modified location max-forwards proxy-authorization
        referer retry-after server user-agent set-cookie via x-forwarded-for date accept te origin vary trailer keep-alive`
        .split(/\s+/)
        .flatMap((name) => [`${name}: 1`, `${name.toUpperCase()}: 2`]),
    ),
  ],
  [
    'names that every object has',
    true,
    get('/', '__proto__: 1', 'constructor: 2', 'toString: 3', 'constructor: 4', '__proto__: 5'),
  ],
  ['a name of 8000 bytes', true, FIELD(`${'n'.repeat(8_000)}: v`)],
  ['a thousand fields', true, get('/', ...Array.from({ length: 999 }, () => 'a:'))],

  ['space behind a value', false, FIELD('a: b ')],
  ['a tab behind a value', false, FIELD('a: b\t')],
  ['nothing but space as a value', true, FIELD('a: \t ')],
  ['space behind a name', false, FIELD('a : b')],
  ['space before a name', false, FIELD(' a: b')],
  ['a folded line', false, get('/', 'a: b', ' c')],
  ['no name', false, FIELD(': b')],
  ['no colon', false, FIELD('abc')],
  ['NUL in a value', false, FIELD('a: \0')],
  ['DEL in a value', false, FIELD('a: \x7f')],
  ['a bare CR in a value', false, FIELD('a: b\rc: d')],
  ['a bare LF as a line end', false, FIELD('a: b\nc: d')],
  ['a bare LF as the first line end', false, get('/').replace('\r\n', '\n')],
  ['a line end before the request', false, `\r\n${get('/')}`],
  ['no host', false, 'GET / HTTP/1.1\r\n\r\n'],
  ['two hosts', false, FIELD('host: b.test')],
  ['an empty host', true, 'GET / HTTP/1.1\r\nHost:\r\n\r\n'],
  ['HTTP/1.0', false, get('/').replace('1.1', '1.0')],
  ['HTTP/2.0', false, get('/').replace('1.1', '2.0')],
  ['two spaces', false, get('/').replace(' ', '  ')],
  ['a method in lower case', false, get('/').replace('GET', 'get')],
  ['TRACE', false, get('/').replace('GET', 'TRACE')],
  ['CONNECT', false, get('a.test:80').replace('GET', 'CONNECT')],
  ['an asterisk', false, get('*').replace('GET', 'OPTIONS')],
  ['a target without a path', false, get('http://a.test')],
  ['a user in a target', false, get('http://u@a.test/')],
  ['another scheme', false, get('ftp://a.test/')],
  ['a fragment', false, get('/a#b')],
  ['a target beyond ASCII', false, get('/\xe9')],
  ['a bracket in a path', false, get('/a[b]')],
  ['a backslash', false, get('/a\\b')],
  ['a quotation mark', false, get('/a"b')],
  ['a tab in a target', false, get('/a\tb')],
  ['chunks', false, `${FIELD('Transfer-Encoding: chunked')}1\r\na\r\n0\r\n\r\n`],
  ['a length and chunks', false, post('/', 'abc', 'Transfer-Encoding: chunked')],
  ['two lengths', false, post('/', 'abc', 'Content-Length: 3')],
  ['a length of two', false, FIELD('Content-Length: 0, 0')],
  ['a length with a sign', false, FIELD('Content-Length: +0')],
  ['a length with a zero before it', false, post('/', 'abc').replace(': 3', ': 03')],
  ['a length in hexadecimal', false, FIELD('Content-Length: 0x0')],
  ['an empty length', false, FIELD('Content-Length:')],
  ['a length beyond all bounds', false, FIELD(`Content-Length: ${'9'.repeat(30)}`)],
  ['less than its length', false, post('/', 'abc').slice(0, -1)],
  ['more than its length', false, `${post('/', 'abc')}d`],
  ['half a head', false, get('/').slice(0, -2)],
  ['half a request line', false, 'GET / HT'],
  ['two requests', false, `${get('/a')}${get('/b')}`],
  ['a request behind a last one', false, `${get('/a', 'Connection: close')}${get('/b')}`],
  ['Expect', false, FIELD('Expect: 100-continue')],
  ['an Expect of something else', false, FIELD('Expect: more')],
  ['Upgrade', false, get('/', 'Connection: upgrade', 'Upgrade: websocket')],
  ['Upgrade that no connection option names', false, FIELD('Upgrade: h2c')],
  ['another connection option', false, FIELD('Connection: keep-alive, te')],
  ['no connection option', false, FIELD('Connection:')],
  ['Proxy-Connection', false, FIELD('Proxy-Connection: close')],
  ['HTTP2-Settings', false, FIELD('HTTP2-Settings: a')],
  ['the preface of HTTP/2', false, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['more fields than Node counts', false, get('/', ...Array.from({ length: 1_000 }, () => 'a:'))],
  ['a head above the bound', false, FIELD(`a: ${'v'.repeat(17_000)}`)],
  ['TLS', false, '\x16\x03\x01\0\xa5\x01\0\0\xa1\x03\x03'],
];

/** What one connection came to. */
interface Told {
  readonly seen: unknown[];
  /** The status of each answer: what the listener did not see was refused so. */
  readonly statuses: string[];
}

class Reader {
  readonly #served: Served;
  readonly #told = new Map<number, Told['seen']>();

  private constructor(at: Served) {
    this.#served = at;
    const other = (request: IncomingMessage, socket: Duplex): void => {
      this.#see(request, request.method ?? '');
      socket.destroy();
    };
    at.server.on('connect', other).on('upgrade', other);
  }

  static async open(t: TestContext, lane: Lane): Promise<Reader> {
    const reader: Reader = new Reader(
      await served(
        t,
        (request, response) => {
          const entry = reader.#see(request, '');
          request.on('data', (chunk) => {
            entry.body += chunk.toString('latin1');
          });
          request.on('end', () => {
            entry.isWhole = request.complete;
            response.writeHead(207, { connection: 'close' }).end();
          });
        },
        { lane },
      ),
    );
    return reader;
  }

  get plain(): number {
    return this.#served.requests.filter(({ isPlain }) => isPlain).length;
  }

  #see(
    {
      socket,
      method,
      url,
      httpVersion,
      rawHeaders,
      headers,
    }: Pick<HttpRequest, 'socket' | 'method' | 'url' | 'httpVersion' | 'rawHeaders' | 'headers'>,
    takesOver: string,
  ) {
    const head = { method, url, httpVersion, rawHeaders, headers };
    const entry = { ...head, takesOver, body: '', isWhole: false };
    this.#told.get(socket.remotePort ?? 0)?.push(entry);
    return entry;
  }

  /** Sends it in one piece, and then the end. */
  async read(text: string): Promise<Told> {
    const client = this.#served.dial();
    await new Promise((resolve) => client.socket.once('connect', resolve));
    const port = client.socket.localPort ?? 0;
    const seen: Told['seen'] = [];
    this.#told.set(port, seen);
    client.socket.end(Buffer.from(text, 'latin1'));
    await client.closed();
    this.#told.delete(port);
    return { seen, statuses: client.received.match(/(?<=^HTTP\/1\.1 )\d+/gm) ?? [] };
  }
}

test('a request is read as Node reads it, and no other than a plain one is taken', async (t) => {
  const [ours, node] = [await Reader.open(t, 'ours'), await Reader.open(t, 'node')];
  for (const [what, isPlain, text] of CASES) {
    const before = ours.plain;
    const told = await ours.read(text);
    assert.deepEqual(told, await node.read(text), what);
    assert.equal(ours.plain - before, isPlain ? 1 : 0, what);
    if (isPlain) assert.deepEqual(told.statuses, ['207'], what);
  }
  assert.equal(node.plain, 0);
});

test('2000 requests with bytes changed here and there are read as Node reads them', async (t) => {
  const [ours, node] = [await Reader.open(t, 'ours'), await Reader.open(t, 'node')];
  const random = numbers(20_261_122);
  const short = CASES.filter(([, , text]) => text.length < 2_000);
  const plain = short.filter(([, isPlain]) => isPlain);
  let refused = 0;
  const worker = async (count: number): Promise<void> => {
    for (let left = count; left > 0; left -= 1) {
      // Of what is not plain most stays so.
      const from = random(4) === 0 ? short : plain;
      const text = changed(from[random(from.length)]?.[2] ?? '', random);
      const [told, wanted] = await Promise.all([ours.read(text), node.read(text)]);
      assert.deepEqual(told, wanted, JSON.stringify(text));
      if (told.statuses[0] !== '207') refused += 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, () => worker(250)));
  assert.ok(ours.plain > 200, `${ours.plain} were taken as plain`);
  assert.ok(refused > 300, `${refused} were refused`);
});

test('a head is read in time that grows with its length alone', () => {
  const lines = 'a: b\r\n'.repeat(900);
  const long = `GET /${'a'.repeat(30_000)} HTTP/1.1\r\nHost: a\r\n${lines}`;
  assert.equal(new PlainHeads().read(long)?.fields.rawHeaders.length, 1_802);
  for (const odd of ['\0', '\r\n', ' ', ': '])
    assert.equal(new PlainHeads().read(`${long}${odd}`), undefined);
});

test('a head behind others on its connection is read as one that is alone', () => {
  const heads = CASES.map(([, , text]) => text.slice(0, text.indexOf('\r\n\r\n') + 2));
  const random = numbers(20_261_122);
  let [repeated, different] = [0, 0];
  for (let connection = 0; connection < 2_000; connection++) {
    const reader = new PlainHeads();
    const said = heads[random(heads.length)] ?? '';
    let before: unknown;
    for (let request = 0; request < 8; request++) {
      const text = next(said, random);
      const [head, alone] = [reader.read(text), new PlainHeads().read(text)];
      assert.deepEqual(sayingOf(head), sayingOf(alone), JSON.stringify(text));
      if (head && head.fields === before) repeated += 1;
      else if (head) different += 1;
      before = head?.fields;
    }
  }
  assert.ok(repeated > 300, `${repeated} were not read again`);
  assert.ok(different > 1_000, `${different} were not what came before`);
});

test('what a client says again is not read again, whatever its length and its target; nobody can change it', () => {
  const reader = new PlainHeads();
  const head = (target: string, ...lines: readonly string[]) =>
    `POST ${target} HTTP/1.1\r\n${['Host: a', 'X-Content-Length: 75', 'a: b', ...lines, ''].join('\r\n')}`;
  const first = reader.read(head('/a', 'Content-Length: 7'));
  assert.ok(first);
  assert.equal(reader.read(head('/b', 'Content-Length: 7'))?.fields, first.fields);
  for (const length of ['7', '123', '0']) {
    const { fields } = reader.read(head('/c', `Content-Length: ${length}`, `b: ${length}`)) ?? {};
    assert.deepEqual(fields?.rawHeaders.slice(4), [
      'a',
      'b',
      'Content-Length',
      length,
      'b',
      length,
    ]);
    assert.deepEqual(
      { ...fields?.headers },
      { host: 'a', 'x-content-length': '75', a: 'b', 'content-length': length, b: length },
    );
    assert.equal(fields?.length, Number(length));
  }
  assert.equal(first.fields.headers['content-length'], '7');
  for (const odd of ['', '+7', '07', '7 ', '7, 7', '-1', '9'.repeat(10), '7\r\nContent-Length: 7'])
    assert.equal(reader.read(head('/a', `Content-Length: ${odd}`)), undefined, odd);
  for (const odd of ['Host: a', 'Transfer-Encoding: chunked', 'Connection: upgrade', ' b', 'b : c'])
    assert.equal(reader.read(head('/a', odd)), undefined, odd);
  assert.equal(reader.read(head('/a', 'Connection: close'))?.fields.persists, false);
  assert.equal(reader.read(head('/a', 'A: c', 'X-Content-Length:'))?.fields.headers['a'], 'b, c');
  const again = [reader.read(head('/a')), reader.read(head('/b'))];
  assert.equal(again[0]?.fields, again[1]?.fields);
  for (const { fields } of [again[0] ?? first]) {
    assert.throws(() => Object.assign(fields.headers, { host: 'b' }), TypeError);
    assert.throws(() => Object.assign(fields.rawHeaders, { 1: 'b' }), TypeError);
  }
});

test('a head that says more than what came before is not read again either where it comes again', () => {
  const reader = new PlainHeads();
  const fieldsOf = (length: number) =>
    reader.read(
      `POST / HTTP/1.1\r\n${['Host: a', 'A: long enough', `Content-Length: ${length}`, ''].join('\r\n')}`,
    )?.fields;
  fieldsOf(1);
  const [once, again, other] = [fieldsOf(2), fieldsOf(2), fieldsOf(3)];
  assert.ok(once && other && once === again && once !== other);
  assert.deepEqual([once.length, other.length, fieldsOf(2)?.length], [2, 3, 2]);
  assert.throws(() => Object.assign(once.headers, { host: 'b' }), TypeError);
  assert.throws(() => Object.assign(once.rawHeaders, { 1: 'b' }), TypeError);
});

test('of a large head nothing is kept', () => {
  const isKept = (head: string) => {
    const reader = new PlainHeads();
    return reader.read(head)?.fields === reader.read(head)?.fields;
  };
  const head = (target: string, ...lines: readonly string[]) =>
    `GET /${target} HTTP/1.1\r\n${['Host: a', ...lines, ''].join('\r\n')}`;
  const many = (count: number) => Array.from({ length: count }, () => 'a:');
  assert.ok(isKept(head('a'.repeat(4_000))) && isKept(head('', ...many(63))));
  assert.ok(!isKept(head('a'.repeat(4_100))) && !isKept(head('', ...many(64))));
  assert.ok(!isKept(head('', `a: ${'b'.repeat(4_100)}`)));
  const isKeptBehind = (said: string, text: string) => {
    const reader = new PlainHeads();
    reader.read(said);
    return reader.read(text)?.fields === reader.read(text)?.fields;
  };
  const short = head('', 'a: b');
  assert.ok(isKeptBehind(short, head('a'.repeat(3_700), 'a: b', ...many(62))));
  assert.ok(!isKeptBehind(short, head('a'.repeat(4_100), 'a: b', 'c: d')));
  assert.ok(!isKeptBehind(short, head('', 'a: b', ...many(63))));
});

/** The fields without what several may have in common. */
function sayingOf(head: ReturnType<PlainHeads['read']>) {
  if (!head) return undefined;
  const { rawHeaders, headers, length, persists } = head.fields;
  return { method: head.method, target: head.target, rawHeaders, headers, length, persists };
}

/** Lines that may come last. */
const MORE = [
  'Content-Length: 5',
  'content-length: 60',
  'A: b',
  'Host: b',
  'Cookie: c',
  'Age: 7',
  'Connection: close',
  'Transfer-Encoding: chunked',
  '__proto__: d',
];

/** What a client may say next: the same, with more behind it, or something else. */
function next(head: string, random: (bound: number) => number): string {
  const lines = MORE.map((line) => `${line}\r\n`).filter(() => random(4) === 0);
  switch (random(4)) {
    case 0:
      return head;
    case 1:
      return head + lines.join('');
    case 2:
      return head + changed(lines.join('') || '\r\n', random);
    default:
      return changed(head, random);
  }
}

const BYTES = '\r\n\0\t\x0b\x0c\x7f\x80\xa0\xff :;,/\\?#@%&=+-._"\'()<>[]{}|^`~019aAfFxX';

/** One or two bytes or pieces put in, put in place of others, left out, written twice or flipped. */
function changed(given: string, random: (bound: number) => number): string {
  let text = given;
  for (let left = 1 + random(2); left > 0; left -= 1) text = changedOnce(text, random);
  return text;
}

function changedOnce(text: string, random: (bound: number) => number): string {
  const at = random(text.length);
  const byte = BYTES[random(BYTES.length)] ?? '';
  const size = 1 + random(random(3) === 0 ? 40 : 3);
  switch (random(5)) {
    case 0:
      return text.slice(0, at) + byte + text.slice(at);
    case 1:
      return text.slice(0, at) + byte + text.slice(at + 1);
    case 2:
      return text.slice(0, at) + text.slice(at + size);
    case 3:
      return text.slice(0, at + size) + text.slice(at);
    default:
      return (
        text.slice(0, at) +
        String.fromCharCode(text.charCodeAt(at) ^ (1 << random(8))) +
        text.slice(at + 1)
      );
  }
}

/** The same for the same seed; of Numerical Recipes. */
function numbers(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}
