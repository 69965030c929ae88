import type { Random } from './random.ts';

/** Texts of requests that are nearly right: pieces that are valid, pieces that are not, and letters changed here and there. */

const HOSTS = [
  'example.com',
  'EXAMPLE.com',
  'a.b.example.com.',
  'xn--bcher-kva.example',
  '_dmarc.example.com',
  'a-b.test',
  '-a.test',
  'a-.test',
  'a..b',
  'localhost',
  'x.localhost',
  '127.0.0.1',
  '127.0.0.1.',
  '010.0.0.1',
  '0x7f.0.0.1',
  '127.1',
  '2130706433',
  '1.2.3.256',
  '203.0.113.7',
  'a.0x1',
  'a.1',
  '1.a',
  '[::1]',
  '[::]',
  '[2001:db8::1]',
  '[2001:0DB8:0:0:0:0:0:1]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[64:ff9b::7f00:1]',
  '[2002:7f00:1::]',
  '[1:2:3:4:5:6:7:8]',
  '[1:2:3:4:5:6:7::]',
  '[1::2::3]',
  '[fe80::1%25eth0]',
  '[::1',
  '::1',
  'outrider.internal',
  'prometheus-main.outrider.internal',
  'http-a-b.outrider.internal',
  'loki-.outrider.internal',
  'x.prometheus-main.outrider.internal',
  'user@example.com',
  'b\u00fccher.example',
  'a%2eb.test',
  `${'a'.repeat(63)}.test`,
  `${'a'.repeat(64)}.test`,
  `${'abcdefg.'.repeat(31)}test`,
  `${'abcdefg.'.repeat(32)}test`,
  '',
];
const PORTS = [
  '',
  '',
  '',
  ':443',
  ':80',
  ':8443',
  ':0',
  ':0443',
  ':65535',
  ':65536',
  ':',
  ':-1',
  ':4x',
];
const SEGMENTS = [
  'a',
  'b',
  'index.html',
  '~x',
  "!$&'()*+,=:@",
  '%20',
  '%2F',
  '%2f',
  '%5C',
  '%2E%2e',
  '%41',
  '%25',
  '%3B',
  '%00',
  '%7F',
  '%C3%A9',
  '%c3%a9',
  '%C3',
  '%A9',
  '%C0%AF',
  '%ED%A0%80',
  '%F0%9F%98%80',
  '%F4%90%80%80',
  '%E2%80%A8',
  '%C2%85',
  '%',
  '%4',
  '%GG',
  '.',
  '..',
  '...',
  ';x',
  'a;b',
  'a\\b',
  '\u00e9',
  '[x]',
  '"',
  '',
];
const QUERIES = [
  '',
  '',
  '?',
  '?a=1',
  '?a=1&b',
  '?a=%20+b',
  '?a=%C3%A9',
  '?%',
  '?a;b',
  '?a=b#c',
  '?\u00e9',
  '#x',
  '?a?b/',
];
const METHODS = [
  'GET',
  'GET',
  'POST',
  'DELETE',
  'OPTIONS',
  'get',
  'TRACE',
  'CONNECT',
  'PROPFIND',
  '',
];
const SCHEMES = ['https', 'https', 'http', 'HTTPS', 'ftp', 'ws', 'https+x', '1http', ''];
const WORDS = [
  '',
  '',
  '',
  '',
  ' http1',
  ' http2',
  ' grpc',
  ' websocket',
  ' tunnel',
  ' x',
  ' grpc x',
  ' ',
];
const LETTERS = 'aZ09.-_~%/\\?#@:;[]*+ =&|^`"<>{}\t\n\0\u00e9\u2024\u3002\uff0e\ud800'.split('');

/** Those of each list that are likely to be accepted: as often picked as all of them. */
const GOOD = {
  hosts: HOSTS.slice(0, 6).concat(
    '203.0.113.7',
    '[2001:db8::1]',
    'prometheus-main.outrider.internal',
  ),
  ports: ['', ':443', ':8443'],
  segments: [
    'a',
    'index.html',
    '~x',
    "!$&'()*+,=:@",
    '%20',
    '%3D',
    '%C3%A9',
    '%F0%9F%98%80',
    '...',
  ],
  queries: ['', '?', '?a=1&b', '?a=%20+b', '?b/'],
  methods: ['GET', 'POST', 'CONNECT'],
  schemes: ['https', 'http'],
  words: ['', '', ' http2', ' grpc', ' websocket'],
};

function likely(random: Random, good: readonly string[], all: readonly string[]): string {
  return random.pick(random.once(4) ? all : good);
}

export function randomRequest(random: Random): string {
  const text = wellFormed(random);
  return random.once(3) ? changed(random, text) : text;
}

function wellFormed(random: Random): string {
  const method = likely(random, GOOD.methods, METHODS);
  const authority = `${likely(random, GOOD.hosts, HOSTS)}${likely(random, GOOD.ports, PORTS)}`;
  if (method === 'CONNECT') return `CONNECT ${authority}`;
  const path = `${randomPath(random)}${likely(random, GOOD.queries, QUERIES)}`;
  const word = likely(random, GOOD.words, WORDS);
  if (random.once(4)) return `${method} ${aliasPath(random)}${path}${word}`;
  return `${method} ${likely(random, GOOD.schemes, SCHEMES)}://${authority}${path}${word}`;
}

function aliasPath(random: Random): string {
  const type = random.pick([
    'prometheus',
    'clickhouse',
    's3',
    'http',
    'http',
    'oracle',
    'Loki',
    '',
  ]);
  const name = random.pick([
    '/main',
    '/main',
    '/main',
    '/main',
    '/a-b',
    '/a-b',
    '/Main',
    '/-x',
    '/1',
    '',
    '/',
    `/${'a'.repeat(64)}`,
  ]);
  return `/${type}${name}`;
}

function randomPath(random: Random): string {
  if (random.once(8)) return '';
  return random
    .times(1 + random.below(3), () => `/${likely(random, GOOD.segments, SEGMENTS)}`)
    .join('');
}

function changed(random: Random, text: string): string {
  const at = random.below(text.length + 1);
  const letter = random.once(4) ? '' : random.pick(LETTERS);
  return `${text.slice(0, at)}${letter}${text.slice(at + random.below(2))}`;
}
