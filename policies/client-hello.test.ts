import assert from 'node:assert/strict';
// oxlint-disable-next-line no-restricted-imports -- a real client's hello is the best vector
import { once } from 'node:events';
// oxlint-disable-next-line no-restricted-imports -- a real client's hello is the best vector
import { createServer } from 'node:net';
import { test } from 'node:test';
// oxlint-disable-next-line no-restricted-imports -- a real client's hello is the best vector
import { connect } from 'node:tls';
import { type ClientHello, helloRefusal, readClientHello } from './client-hello.ts';
import { tunnelTarget } from './target.ts';

test('a real client hello is read: server name and protocols', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address);
  const client = connect({
    host: '127.0.0.1',
    port: address.port,
    servername: 'Api.Example.com',
    ALPNProtocols: ['h2', 'http/1.1'],
  });
  client.on('error', () => undefined);
  t.after(() => client.destroy());
  const [socket] = await once(server, 'connection');
  t.after(() => socket.destroy());
  const [bytes] = await once(socket, 'data');
  assert.deepEqual(readClientHello(bytes), {
    state: 'hello',
    serverName: 'api.example.com',
    ech: false,
    alpn: ['h2', 'http/1.1'],
  });
  for (let length = 0; length < bytes.length; length++) {
    assert.deepEqual(
      readClientHello(bytes.subarray(0, length)),
      { state: 'more' },
      `after ${length} bytes`,
    );
  }
});

const NAME = [...extension(0, vector(2, [0, ...vector(2, ascii('api.example.com'))]))];

test('bytes that follow the hello change nothing', () => {
  const hello = record(handshake(NAME));
  assert.deepEqual(read([...hello, ...record([0xff]), 0x17, 3, 3]), read(hello));
});

for (const size of [1, 5, 100]) {
  test(`a hello in records of ${size} bytes is read as one`, () => {
    const whole = handshake(NAME);
    const records: number[] = [];
    for (let at = 0; at < whole.length; at += size)
      records.push(...record(whole.slice(at, at + size)));
    assert.deepEqual(read(records), read(record(whole)));
    assert.deepEqual(read(records.slice(0, -1)), { state: 'more' });
  });
}

test('a hello of 40 000 bytes over several records is read, one of 70 000 is refused', () => {
  const big = (size: number) => {
    const whole = handshake([
      ...extension(21, repeat(size - 20_000, 0)),
      ...extension(22, repeat(20_000, 0)),
      ...NAME,
    ]);
    const records: number[] = [];
    for (let at = 0; at < whole.length; at += 16_000)
      records.push(...record(whole.slice(at, at + 16_000)));
    return records;
  };
  assert.equal(nameOf(read(big(40_000))), 'api.example.com');
  const oversized = [22, 3, 1, 0x40, 0, 1, 0x01, 0x11, 0x70];
  assert.deepEqual(read(oversized), { state: 'invalid', reason: 'protocol_mismatch' });
});

const hellos = [
  ['no extensions at all', handshake(undefined), 'sni_missing'],
  ['no server name', handshake(extension(16, vector(2, vector(1, ascii('h2'))))), 'sni_missing'],
  ['the host', handshake(NAME), undefined],
  ['another host', handshake(sni('evil.test')), 'sni_mismatch'],
  ['a host beneath', handshake(sni('x.api.example.com')), 'sni_mismatch'],
  ['the host with a trailing dot', handshake(sni('api.example.com.')), 'sni_mismatch'],
  ['the host in capitals', handshake(sni('API.EXAMPLE.COM')), undefined],
  [
    'an encrypted hello',
    handshake([...NAME, ...extension(0xfe0d, [0, 0, 1, 0, 1, 0])]),
    'ech_unsupported',
  ],
  ['ESNI', handshake([...NAME, ...extension(0xffce, [0])]), 'ech_unsupported'],
] as const;
for (const [what, hello, expected] of hellos) {
  test(`a hello with ${what} in a tunnel to api.example.com: ${expected ?? 'passes'}`, () => {
    const found = read(record(hello));
    assert.ok(found.state === 'hello');
    assert.equal(helloRefusal(tunnel('api.example.com:443'), found), expected);
  });
}

test('a tunnel to an address takes a hello without a server name, and no other', () => {
  const to = tunnel('203.0.113.7:443');
  const [named, unnamed] = [read(record(handshake(NAME))), read(record(handshake([])))];
  assert.ok(named.state === 'hello' && unnamed.state === 'hello');
  assert.equal(helloRefusal(to, unnamed), undefined);
  assert.equal(helloRefusal(to, named), 'sni_mismatch');
});

const invalid = [
  ['ssh', ascii('SSH-2.0-x\r\n')],
  ['http', ascii('GET / HTTP/1.1\r\n')],
  ['one wrong byte', [0x47]],
  ['an SSLv2 hello', [0x80, 0x2e, 1, 3, 1]],
  ['an alert', [21, 3, 3, 0, 2, 1, 0]],
  ['application data', [23, 3, 3, 0, 1, 0]],
  ['a record of SSL 2', [22, 2, 0, 0, 1, 1]],
  ['an empty record', [22, 3, 1, 0, 0]],
  ['a record above 2^14', [22, 3, 1, 0x40, 1, 1]],
  ['a server hello', record([2, 0, 0, 1, 0])],
  ['a second server name', record(handshake([...NAME, ...sni('evil.test')]))],
  [
    'two names in one extension',
    record(
      handshake(
        extension(
          0,
          vector(2, [
            0,
            ...vector(2, ascii('a.example.com')),
            0,
            ...vector(2, ascii('b.example.com')),
          ]),
        ),
      ),
    ),
  ],
  ['an empty list of names', record(handshake(extension(0, vector(2, []))))],
  [
    'a name of another type',
    record(handshake(extension(0, vector(2, [1, ...vector(2, ascii('a.example.com'))])))),
  ],
  ['NUL in the name', record(handshake(sni('api.example.com\0.evil.test')))],
  [
    'bytes behind the list',
    record(handshake(extension(0, [...vector(2, [0, ...vector(2, ascii('a.example.com'))]), 0]))),
  ],
  ['bytes behind the extensions', record(message([...prefix(), ...vector(2, NAME), 0]))],
  [
    'an extension longer than its list',
    record(message([...prefix(), ...vector(2, [0, 0, 0, 9, 1])])),
  ],
  ['a hello that is cut within', record(message([3, 3, 1, 2, 3]))],
  [
    'a session id of 33',
    record(message([3, 3, ...repeat(32, 7), ...vector(1, repeat(33, 1)), 0, 2, 0, 1, 1, 0])),
  ],
  ['an alert between two halves', [...record(handshake(NAME).slice(0, 20)), 21, 3, 3, 0, 2, 1, 0]],
] as const;
for (const [what, bytes] of invalid) {
  test(`${what} is no client hello`, () => {
    assert.deepEqual(read(bytes), { state: 'invalid', reason: 'protocol_mismatch' });
  });
}

test('no bytes at all make it throw', () => {
  const hello = record(handshake([...NAME, ...extension(16, vector(2, vector(1, ascii('h2'))))]));
  for (let at = 0; at < hello.length; at++) {
    for (const value of [0, 1, 0x7f, 0xff]) {
      const changed = hello.with(at, value);
      assert.ok(['more', 'invalid', 'hello'].includes(read(changed).state));
    }
  }
});

function read(bytes: readonly number[]): ClientHello {
  return readClientHello(Uint8Array.from(bytes));
}

function nameOf(hello: ClientHello): string | null {
  return hello.state === 'hello' ? hello.serverName : null;
}

function tunnel(authority: string) {
  const canonical = tunnelTarget(authority);
  assert.ok(canonical.ok);
  return canonical.target;
}

function record(fragment: readonly number[]): number[] {
  return [22, 3, 1, ...vector(2, fragment)];
}

function handshake(extensions: readonly number[] | undefined): number[] {
  return message([...prefix(), ...(extensions ? vector(2, extensions) : [])]);
}

function message(body: readonly number[]): number[] {
  return [1, 0, body.length >> 8, body.length & 0xff, ...body];
}

/** Version, random, no session id, one cipher suite, no compression. */
function prefix(): number[] {
  return [3, 3, ...repeat(32, 7), 0, 0, 2, 0x13, 0x01, 1, 0];
}

function sni(name: string): number[] {
  return extension(0, vector(2, [0, ...vector(2, ascii(name))]));
}

function extension(type: number, body: readonly number[]): number[] {
  return [type >> 8, type & 0xff, ...vector(2, body)];
}

function vector(lengthBytes: 1 | 2, body: readonly number[]): number[] {
  return lengthBytes === 1
    ? [body.length, ...body]
    : [body.length >> 8, body.length & 0xff, ...body];
}

function ascii(text: string): number[] {
  return Array.from(text, (char) => char.charCodeAt(0));
}

function repeat(count: number, byte: number): number[] {
  return Array.from({ length: count }, () => byte);
}
