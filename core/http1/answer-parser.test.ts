import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerHeads } from './answer-head.ts';
import { AnswerParser } from './answer-parser.ts';
import { Http1Error } from './error.ts';

// Readings of RFC 9112. Each is held to at once and byte by byte; `npm run fuzz -- answers` holds them against other readers.

const HEAD_MAX_BYTES = 1_024;

interface Outcome {
  readonly told: readonly string[];
  readonly reusable: boolean;
}

interface Ask {
  readonly method: string;
  readonly upgrades: boolean;
}

const GET: Ask = { method: 'GET', upgrades: false };

function read(pieces: readonly Buffer[], { method, upgrades }: Ask, ends: boolean): Outcome {
  const told: string[] = [];
  let body = '';
  const flush = (): void => {
    if (body !== '') told.push(`body ${body}`);
    body = '';
  };
  const parser = new AnswerParser(
    {
      onHead: ({ status, headers }) => told.push([status, ...headers].join('|')),
      onData: (chunk) => {
        body += chunk.toString('latin1');
      },
      onEnd: (trailers) => {
        flush();
        told.push(['end', ...trailers].join('|'));
      },
      onUpgrade: ({ status }, rest) => told.push(`upgrade ${status} ${rest.toString('latin1')}`),
    },
    HEAD_MAX_BYTES,
  );
  parser.expect(method, upgrades);
  try {
    for (const piece of pieces) parser.push(piece);
    if (ends) parser.end();
  } catch (error) {
    flush();
    assert.ok(error instanceof Http1Error, String(error));
    told.push(error.code);
  }
  flush();
  return { told, reusable: parser.reusable };
}

/** The same at once, byte by byte, and cut in two at every place. */
function readings(text: string, ask: Ask, ends: boolean): Outcome {
  const bytes = Buffer.from(text, 'latin1');
  const single = [...bytes.keys()].map((at) => bytes.subarray(at, at + 1));
  const whole = read([bytes], ask, ends);
  assert.deepEqual(read(single, ask, ends), whole, 'byte by byte');
  const places = bytes.length > 400 ? [] : bytes.keys(); // what is longer is long only
  for (const at of places)
    assert.deepEqual(
      read([bytes.subarray(0, at), bytes.subarray(at)], ask, ends),
      whole,
      `cut at ${at}`,
    );
  return whole;
}

const HELLO = 'content-length: 5\r\n\r\nhello';
const CHUNKED = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n';
const TOLD_CHUNKED = '200|transfer-encoding|chunked';
const LENGTH_5 = '200|content-length|5';

/** Text, what is told of it, whether the connection may be used again, and what it is about. */
const READ: readonly [string, readonly string[], boolean, string, Partial<Ask>?][] = [
  [`HTTP/1.1 200 OK\r\n${HELLO}`, [LENGTH_5, 'body hello', 'end'], true, 'a length'],
  [`HTTP/1.1 200\r\n${HELLO}`, [LENGTH_5, 'body hello', 'end'], true, 'no reason, and no space'],
  [`HTTP/1.1 200 \r\n${HELLO}`, [LENGTH_5, 'body hello', 'end'], true, 'an empty reason'],
  [
    `HTTP/1.1 200 \xe9 \t~\r\n${HELLO}`,
    [LENGTH_5, 'body hello', 'end'],
    true,
    'obs-text and tabs in a reason',
  ],
  [`HTTP/1.0 200 OK\r\n${HELLO}`, [LENGTH_5, 'body hello', 'end'], false, 'HTTP/1.0'],
  ['HTTP/1.1 599 x\r\ncontent-length: 0\r\n\r\n', ['599|content-length|0', 'end'], true, '599'],
  [
    'HTTP/1.1 200 OK\r\ncontent-length: 00005\r\n\r\nhello',
    ['200|content-length|00005', 'body hello', 'end'],
    true,
    'a length with zeros before it',
  ],
  [
    'HTTP/1.1 200 OK\r\nA:b\r\nA: \t b \t\r\nE:\r\nF: \r\ncontent-length: 0\r\n\r\n',
    ['200|A|b|A|b|E||F||content-length|0', 'end'],
    true,
    'spaces around values, and values that are empty',
  ],
  [
    'HTTP/1.1 200 OK\r\n!#$%&\'*+-.^_`|~09aZ: \xff\x80 "x"\r\ncontent-length: 0\r\n\r\n',
    ['200|!#$%&\'*+-.^_`|~09aZ|\xff\x80 "x"|content-length|0', 'end'],
    true,
    'every character of a name, and obs-text in a value',
  ],
  [
    `HTTP/1.1 200 OK\r\nConnection: close\r\n${HELLO}`,
    ['200|Connection|close|content-length|5', 'body hello', 'end'],
    false,
    'Connection: close',
  ],
  [
    `HTTP/1.1 200 OK\r\nConnection: x, CLOSE ,y\r\n${HELLO}`,
    ['200|Connection|x, CLOSE ,y|content-length|5', 'body hello', 'end'],
    false,
    'close among other options',
  ],
  [
    `HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: close\r\n${HELLO}`,
    ['200|Connection|x|Connection|close|content-length|5', 'body hello', 'end'],
    false,
    'close in a second field',
  ],
  [
    `HTTP/1.1 200 OK\r\nConnection: closed, disclose\r\n${HELLO}`,
    ['200|Connection|closed, disclose|content-length|5', 'body hello', 'end'],
    true,
    'options that are not close',
  ],
  [`${CHUNKED}5\r\nhello\r\n0\r\n\r\n`, [TOLD_CHUNKED, 'body hello', 'end'], true, 'chunks'],
  [
    `HTTP/1.1 200 OK\r\nTRANSFER-ENCODING:CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n`,
    ['200|TRANSFER-ENCODING|CHUNKED', 'body hi', 'end'],
    true,
    'chunked in capitals',
  ],
  [
    `${CHUNKED}0000000A\r\n0123456789\r\n1\r\n\r\r\n00\r\n\r\n`,
    [TOLD_CHUNKED, 'body 0123456789\r', 'end'],
    true,
    'sizes with zeros before them and in capitals; a chunk that is a CR',
  ],
  [
    `${CHUNKED}2;a=b;c="d e"\r\nhi\r\n0;x\r\n\r\n`,
    [TOLD_CHUNKED, 'body hi', 'end'],
    true,
    'extensions',
  ],
  [`${CHUNKED}0\r\nA: b\r\nC:\r\n\r\n`, [TOLD_CHUNKED, 'end|A|b|C|'], true, 'trailers'],
  ['HTTP/1.1 200 OK\r\n\r\nhello', ['200', 'body hello', 'end'], false, 'no length: until the end'],
  ['HTTP/1.1 200 OK\r\n\r\n', ['200', 'end'], false, 'no length, and nothing until the end'],
  ['HTTP/1.1 204 x\r\n\r\n', ['204', 'end'], true, '204'],
  [
    'HTTP/1.1 304 x\r\ncontent-length: 5\r\n\r\n',
    ['304|content-length|5', 'end'],
    true,
    '304 with the length that another would have',
  ],
  [
    'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n',
    [LENGTH_5, 'end'],
    true,
    'a length in the answer to HEAD',
    { method: 'HEAD' },
  ],
  ['HTTP/1.1 200 OK\r\n\r\n', ['200', 'end'], true, 'no length to HEAD', { method: 'HEAD' }],
  [CHUNKED, [TOLD_CHUNKED, 'end'], true, 'chunked to HEAD', { method: 'HEAD' }],
  [
    `HTTP/1.1 103 x\r\nlink: y\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n${HELLO}`,
    ['103|link|y', '100', LENGTH_5, 'body hello', 'end'],
    true,
    'interim answers',
  ],
  [
    'HTTP/1.1 103 x\r\ncontent-length: 0\r\n\r\nHTTP/1.1 204 x\r\n\r\n',
    ['103|content-length|0', '204', 'end'],
    true,
    'an interim answer of no length',
  ],
  [
    `HTTP/1.1 200 OK\r\n${HELLO}x`,
    [LENGTH_5, 'body hello', 'end'],
    false,
    'a byte behind an answer',
  ],
  [
    `HTTP/1.1 200 OK\r\n${HELLO}HTTP/1.1 200 OK\r\n${HELLO}`,
    [LENGTH_5, 'body hello', 'end'],
    false,
    'an answer behind an answer',
  ],
  [`${CHUNKED}0\r\n\r\n\r\n`, [TOLD_CHUNKED, 'end'], false, 'an empty line behind the last chunk'],
  [
    'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello',
    [LENGTH_5, 'end'],
    false,
    'a body to HEAD',
    { method: 'HEAD' },
  ],
];
for (const [text, told, reusable, what, ask] of READ)
  test(`read: ${what}`, () => {
    const wanted = { told, reusable };
    assert.deepEqual(readings(text, { ...GET, ...ask }, true), wanted);
  });

/** What is told of it before it is refused; nothing where that is in the head. */
const MALFORMED: readonly [string, string, (readonly string[])?][] = [
  [`HTTP/1.2 200 OK\r\n${HELLO}`, 'another version'],
  [`HTTP/2.0 200 OK\r\n${HELLO}`, 'HTTP/2.0'],
  [`http/1.1 200 OK\r\n${HELLO}`, 'a version in small letters'],
  [`ICY 200 OK\r\n${HELLO}`, 'another protocol'],
  [`\r\nHTTP/1.1 200 OK\r\n${HELLO}`, 'an empty line before the status line'],
  [` HTTP/1.1 200 OK\r\n${HELLO}`, 'a space before the status line'],
  [`HTTP/1.1  200 OK\r\n${HELLO}`, 'two spaces before the status'],
  [`HTTP/1.1\t200 OK\r\n${HELLO}`, 'a tab before the status'],
  [`HTTP/1.1 099 OK\r\n${HELLO}`, 'a status below 100'],
  [`HTTP/1.1 600 OK\r\n${HELLO}`, 'a status above 599'],
  [`HTTP/1.1 20 OK\r\n${HELLO}`, 'a status of two digits'],
  [`HTTP/1.1 2000 OK\r\n${HELLO}`, 'a status of four digits'],
  [`HTTP/1.1 200\tOK\r\n${HELLO}`, 'a tab behind the status'],
  [`HTTP/1.1 200 O\0K\r\n${HELLO}`, 'a NUL in the reason'],
  [`HTTP/1.1 200 O\rK\r\n${HELLO}`, 'a CR in the reason'],
  [`HTTP/1.1 200 OK\n${HELLO}`, 'a status line that ends with LF alone'],
  ['HTTP/1.1 200 OK\r\nA: b\ncontent-length: 0\r\n\r\n', 'a field that ends with LF alone'],
  ['HTTP/1.1 200 OK\r\nA: b\rcontent-length: 0\r\n\r\n', 'a field that ends with CR alone'],
  ['HTTP/1.1 200 OK\r\nA: b\r\r\ncontent-length: 0\r\n\r\n', 'a CR too many'],
  ['HTTP/1.1 200 OK\r\nA: b\r\n c\r\ncontent-length: 0\r\n\r\n', 'a folded line'],
  ['HTTP/1.1 200 OK\r\n A: b\r\ncontent-length: 0\r\n\r\n', 'a folded line at the beginning'],
  ['HTTP/1.1 200 OK\r\nA : b\r\ncontent-length: 0\r\n\r\n', 'a space before a colon'],
  ['HTTP/1.1 200 OK\r\nA\t: b\r\ncontent-length: 0\r\n\r\n', 'a tab before a colon'],
  ['HTTP/1.1 200 OK\r\n: b\r\ncontent-length: 0\r\n\r\n', 'no name'],
  ['HTTP/1.1 200 OK\r\nA b\r\ncontent-length: 0\r\n\r\n', 'no colon'],
  ['HTTP/1.1 200 OK\r\nA(: b\r\ncontent-length: 0\r\n\r\n', 'a separator in a name'],
  ['HTTP/1.1 200 OK\r\n\xe9: b\r\ncontent-length: 0\r\n\r\n', 'obs-text in a name'],
  ['HTTP/1.1 200 OK\r\nA: b\0\r\ncontent-length: 0\r\n\r\n', 'a NUL in a value'],
  ['HTTP/1.1 200 OK\r\nA: b\x7f\r\ncontent-length: 0\r\n\r\n', 'a DEL in a value'],
  ['HTTP/1.1 200 OK\r\nA: b\x0b\r\ncontent-length: 0\r\n\r\n', 'a VT in a value'],
  ['HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello', 'two equal lengths'],
  ['HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello', 'a list of lengths'],
  ['HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello', 'a length with a sign'],
  ['HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello', 'a length below 0'],
  ['HTTP/1.1 200 OK\r\ncontent-length: 0x5\r\n\r\nhello', 'a length in hex'],
  ['HTTP/1.1 200 OK\r\ncontent-length: 5 5\r\n\r\nhello', 'a length of two words'],
  ['HTTP/1.1 200 OK\r\ncontent-length: 5 \r\n\r\nhello', 'a space behind a length'],
  ['HTTP/1.1 200 OK\r\ncontent-length: 5\t\r\n\r\nhello', 'a tab behind a length'],
  ['HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n', 'a length that is empty'],
  [`HTTP/1.1 200 OK\r\ncontent-length: ${'1'.repeat(16)}\r\n\r\n`, 'a length of 16 digits'],
  ['HTTP/1.1 204 x\r\ncontent-length: x\r\n\r\n', 'a length that is none, of what has no body'],
  [
    'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    'a length beside chunks',
  ],
  [
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n',
    'chunks beside a length',
  ],
  [
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    'chunked twice',
  ],
  ['HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n', 'another coding'],
  ['HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nhello', 'identity'],
  ['HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello', 'gzip until the end'],
  ['HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n\r\nhello', 'a coding that is empty'],
  [
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked;a=b\r\n\r\n0\r\n\r\n',
    'a coding with a parameter',
  ],
  ['HTTP/1.1 200 OK\r\ntransfer-encoding: chunked \r\n\r\n0\r\n\r\n', 'a space behind chunked'],
  ['HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\t\r\n\r\n0\r\n\r\n', 'a tab behind chunked'],
  ['HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', 'chunks in HTTP/1.0'],
  ['HTTP/1.1 204 x\r\ntransfer-encoding: chunked\r\n\r\n', 'chunks of a 204'],
  ['HTTP/1.1 304 x\r\ntransfer-encoding: chunked\r\n\r\n', 'chunks of a 304'],
  ['HTTP/1.1 103 x\r\ntransfer-encoding: chunked\r\n\r\n', 'chunks of an interim answer'],
  ['HTTP/1.1 103 x\r\ncontent-length: 1\r\n\r\n', 'a length of an interim answer'],
  ['HTTP/1.1 103 x\r\nconnection: close\r\n\r\n', 'an interim answer that is the last'],
  ['HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n', 'a 101 that nobody asked for'],
  [`HTTP/1.1 200 OK\r\nA: ${'b'.repeat(HEAD_MAX_BYTES)}\r\n\r\n`, 'a head that is too long'],
  [`HTTP/1.1 200 OK\r\nA: ${'b'.repeat(2 * HEAD_MAX_BYTES)}`, 'a head that has no end'],
  [`${CHUNKED}\r\nhello\r\n`, 'a chunk without a size', [TOLD_CHUNKED]],
  [`${CHUNKED}+5\r\nhello\r\n`, 'a size with a sign', [TOLD_CHUNKED]],
  [`${CHUNKED}0x5\r\nhello\r\n`, 'a size with 0x', [TOLD_CHUNKED]],
  [`${CHUNKED} 5\r\nhello\r\n`, 'a space before a size', [TOLD_CHUNKED]],
  [`${CHUNKED}5 \r\nhello\r\n`, 'a space behind a size', [TOLD_CHUNKED]],
  [`${CHUNKED}5 ;a\r\nhello\r\n`, 'a space before an extension', [TOLD_CHUNKED]],
  [`${CHUNKED}5;a b\r\nhello\r\n`, 'an extension that is none', [TOLD_CHUNKED]],
  [`${CHUNKED}5;a\nb\r\nhello\r\n`, 'an LF in an extension', [TOLD_CHUNKED]],
  [`${CHUNKED}5;\r\nhello\r\n`, 'an extension without a name', [TOLD_CHUNKED]],
  [`${CHUNKED}5;a=${'b'.repeat(1_000)}\r\nhello\r\n`, 'a long extension', [TOLD_CHUNKED]],
  [`${CHUNKED}000000005\r\nhello\r\n`, 'a size of nine digits', [TOLD_CHUNKED]],
  [`${CHUNKED}5\nhello\r\n`, 'a size that ends with LF alone', [TOLD_CHUNKED]],
  [`${CHUNKED}5\r\nhello\n0\r\n\r\n`, 'a chunk that ends with LF', [TOLD_CHUNKED, 'body hello']],
  [`${CHUNKED}5\r\nhello0\r\n\r\n`, 'a chunk without an end', [TOLD_CHUNKED, 'body hello']],
  [`${CHUNKED}5\r\nhello!\r\n0\r\n\r\n`, 'a chunk too long', [TOLD_CHUNKED, 'body hello']],
  [`${CHUNKED}0\r\nA : b\r\n\r\n`, 'a trailer with a space before the colon', [TOLD_CHUNKED]],
  [`${CHUNKED}0\r\nA: b\r\n c\r\n\r\n`, 'a folded trailer', [TOLD_CHUNKED]],
  [`${CHUNKED}0\r\nA: b\nC: d\r\n\r\n`, 'a trailer that ends with LF alone', [TOLD_CHUNKED]],
  [`${CHUNKED}0\r\ncontent-length: 0\r\n\r\n`, 'a length among trailers', [TOLD_CHUNKED]],
  [`${CHUNKED}0\r\nTransfer-Encoding: chunked\r\n\r\n`, 'a coding among trailers', [TOLD_CHUNKED]],
  [
    `${CHUNKED}0\r\nA: ${'b'.repeat(2 * HEAD_MAX_BYTES)}`,
    'trailers that are too long',
    [TOLD_CHUNKED],
  ],
];
for (const [text, what, told = []] of MALFORMED)
  test(`MALFORMED: ${what}`, () => {
    assert.deepEqual(readings(text, GET, false).told, [...told, 'MALFORMED']);
  });

test('MALFORMED: more fields than a thousand; a thousand are read', () => {
  for (const [count, wanted] of [
    [1_000, 'end'],
    [1_001, 'MALFORMED'],
  ] as const) {
    const told: string[] = [];
    const text = `HTTP/1.1 204 x\r\n${'A:b\r\n'.repeat(count)}\r\n`;
    const parser = new AnswerParser(
      {
        onHead: () => {},
        onData: () => {},
        onEnd: () => told.push('end'),
        onUpgrade: () => {},
      },
      65_536,
    );
    parser.expect('GET');
    try {
      parser.push(Buffer.from(text));
    } catch (error) {
      told.push(error instanceof Http1Error ? error.code : String(error));
    }
    assert.deepEqual(told, [wanted], `${count} fields`);
  }
});

const CUT: readonly [string, string, (readonly string[])?][] = [
  ['', 'nothing at all'],
  ['HTTP/1.1 200 OK\r\ncontent-le', 'half a head'],
  ['HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell', 'half a body', [LENGTH_5, 'body hell']],
  [`${CHUNKED}5\r\nhel`, 'half a chunk', [TOLD_CHUNKED, 'body hel']],
  [`${CHUNKED}5\r\nhello`, 'a chunk without its end', [TOLD_CHUNKED, 'body hello']],
  [`${CHUNKED}5\r\nhello\r\n`, 'no last chunk', [TOLD_CHUNKED, 'body hello']],
  [`${CHUNKED}0\r\n`, 'no end of the trailers', [TOLD_CHUNKED]],
  [`${CHUNKED}0\r\nA: b\r\n`, 'no end of the trailers, of which there is one', [TOLD_CHUNKED]],
  ['HTTP/1.1 100 x\r\n\r\n', 'only an interim answer', ['100']],
];
for (const [text, what, told = []] of CUT)
  test(`CLOSED: ${what}`, () => {
    assert.deepEqual(readings(text, GET, true).told, [...told, 'CLOSED']);
  });

test('what was asked to go on as another protocol does, with what came behind the head', () => {
  const text = 'HTTP/1.1 101 x\r\nupgrade: y\r\n\r\n';
  const ask = { method: 'GET', upgrades: true };
  assert.deepEqual(read([Buffer.from(`${text}rest`)], ask, false).told, ['upgrade 101 rest']);
  assert.deepEqual(readings(`HTTP/1.1 200 OK\r\n${HELLO}`, ask, false).told.at(-1), 'end');
});

for (const status of ['200', '407'])
  test(`CONNECT that is answered ${status} is a tunnel, whatever the head says of a body`, () => {
    const text = `HTTP/1.1 ${status} x\r\ncontent-length: 5\r\n\r\nrest`;
    const told = read([Buffer.from(text)], { method: 'CONNECT', upgrades: false }, false).told;
    assert.deepEqual(told, [`upgrade ${status} rest`]);
  });

test('one answer after the other is read where each is expected', () => {
  const told: string[] = [];
  const parser = new AnswerParser(
    {
      onHead: ({ status }) => told.push(String(status)),
      onData: (chunk) => told.push(chunk.toString()),
      onEnd: () => told.push('end'),
      onUpgrade: () => {},
    },
    HEAD_MAX_BYTES,
  );
  for (const method of ['GET', 'HEAD', 'GET']) {
    parser.expect(method);
    parser.push(Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n'));
    if (method === 'GET') parser.push(Buffer.from('hi'));
    assert.ok(parser.reusable);
  }
  assert.deepEqual(told, ['200', 'hi', 'end', '200', 'end', '200', 'hi', 'end']);
});

test('a head behind another on its connection is read as one that is alone; what is said again is not read again', () => {
  const heads = [...READ, ...MALFORMED].map(([text]) =>
    text.slice(0, text.indexOf('\r\n\r\n') + 2),
  );
  for (const first of heads) {
    const reader = new AnswerHeads();
    const before = headOr(reader, first);
    const again = headOr(reader, first);
    assert.ok(typeof again === 'string' || again === before, first);
    for (const second of heads)
      assert.deepEqual(headOr(reader, second), headOr(new AnswerHeads(), second), second);
  }
  const { headers } = new AnswerHeads().read('HTTP/1.1 200 OK\r\na: b\r\n');
  assert.throws(() => Object.assign(headers, { 1: 'c' }), TypeError);
});

/** Or the code of what is wrong with it. */
function headOr(reader: AnswerHeads, text: string) {
  try {
    return reader.read(text);
  } catch (error) {
    return error instanceof Http1Error ? error.code : assert.fail(String(error));
  }
}

test('bytes before any request was written are no answer to the next one', () => {
  const parser = new AnswerParser(
    { onHead: () => assert.fail(), onData: () => {}, onEnd: () => {}, onUpgrade: () => {} },
    HEAD_MAX_BYTES,
  );
  parser.push(Buffer.from(`HTTP/1.1 200 OK\r\n${HELLO}`));
  assert.ok(!parser.reusable);
});
