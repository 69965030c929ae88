import type { Random } from '../../support/random.ts';

/** The bytes of one connection, one character each. */
export interface Case {
  readonly text: string;
  /** Sent behind a SOCKS5 request for api.allowed.test:80 and not to the door itself. */
  readonly inside: boolean;
  /** How many bytes at its end are held back until something has been answered: what comes before them may then be taken as plain. */
  readonly heldBack?: number;
}

/** What is right, and then what is right as well, or not quite. */
type Choices = readonly [string, ...string[]];

const METHODS: Choices = [
  'GET',
  'POST',
  'PUT',
  'HEAD',
  'OPTIONS',
  'DELETE',
  'PATCH',
  'get',
  'QUERY',
  'M-SEARCH',
  'TRACE',
  'CONNECT',
  'PRI',
  'G(T',
  '"GET"',
  '',
  'GET\0',
  'G\xc9T',
];
const ORIGINS: Choices = [
  'http://api.allowed.test',
  'http://API.allowed.test',
  'http://api.allowed.test:80',
  'http://api.allowed.test.',
  'http://api.allowed.test:080',
  'http://api.allowed.test:',
  'http://api.allowed.test:8\t0',
  'HTTP://api.allowed.test',
  'http://a.wild.test',
  'http://a_b.wild.test',
  'http://user@api.allowed.test',
  'http://api.allowed.test@evil.test',
  'http://api.allowed.test:80@evil.test',
  'http://evil.test\\@api.allowed.test',
  'http://api.allowed.test\\.evil.test',
  'http://api.allowed.test%2eevil.test',
  'http://api.allowed.test\xad',
  'http://api%2eallowed.test',
  'http://[::1]',
  'http:/api.allowed.test',
  'http:api.allowed.test',
  'http:///api.allowed.test',
  '//api.allowed.test',
  'https://api.allowed.test',
  'http://prometheus-main.outrider.internal',
  'ws://api.allowed.test',
  'http\t://api.allowed.test',
];
const PATHS: Choices = [
  '/v1/ok',
  '/',
  '',
  '/v1/ok?a=b',
  '?a=b',
  '/v1/../x',
  '/v1/./x',
  '/v1//x',
  '/%2e%2e/x',
  '/a%2fb',
  '/a%5cb',
  '/a\\b',
  '/a#b',
  '/a;b=c',
  '/a|b',
  '/a"b',
  '/a%00',
  '/a%0d%0a',
  '/caf\xe9',
  '/caf%C3%A9',
  '/a\tb',
  '/a\x0bb',
  '/a\xa0b',
  '/a\x85b',
  '/~x',
  '/%7ex',
  '/a?b?c',
  '/a?b#c',
  '/a?b\\c',
  '/a?b\xe9',
  "/a?b'c",
  '/a?b%',
  '/a[b]',
  '/a^b`c',
  '/a{b}',
  '/a?',
];
const ALIASES: Choices = [
  '/prometheus/main/api/v1/query?query=up',
  '/prometheus/main',
  '/prometheus/main/../other/x',
  '/prometheus//main/x',
  '//prometheus/main/x',
  '/prometheus/x',
  '/http/api/x',
  '*',
];
const VERSIONS: Choices = [
  'HTTP/1.1',
  'HTTP/1.0',
  'http/1.1',
  'HTTP/1.2',
  'HTTP/2.0',
  'HTTP/01.1',
  'HTTP/1.1 ',
  'HTTP/1.10',
  'HTTP/1',
  'HTTP/0.9',
  'HTTP/ 1.1',
  'RTSP/1.1',
  'ICE/1.0',
  '',
];
const SPACES: Choices = [' ', '  ', '\t', '\x0b', '\x0c', '\xa0', '\x1c', ' \r '];
const LINE_ENDS: Choices = [
  '\r\n',
  '\n',
  '\r',
  '\r\r\n',
  '\n\r\n',
  '\r\n\r\n',
  '\x0b\r\n',
  '\0\r\n',
];
const HOSTS: Choices = [
  'api.allowed.test',
  'API.Allowed.test',
  'api.allowed.test:80',
  'api.allowed.test.',
  'api.allowed.test:080',
  'api.allowed.test:8080',
  'evil.test',
  '',
  'api.allowed.test, evil.test',
  'evil.test@api.allowed.test',
  'http://api.allowed.test',
  'api.allowed.test/x',
  'api.allowed.test\t',
  '127.0.0.1:3128',
  'a.wild.test',
];
const HOST_NAMES: Choices = ['Host', 'host', 'Host ', 'HOST', 'X-Host'];
const COLONS: Choices = [': ', ':', ':\t', ' : ', ':  ', '\t:', ': \x0b', ': \0', ':\xa0'];
/** Names and values of headers that change where a message ends or what it is about. `N`: how long the body is. */
const FRAMING: readonly [string, ...string[]] = [
  'Content-Length: N',
  'content-length: N',
  'Transfer-Encoding: chunked',
  'transfer-encoding: Chunked',
  'Content-Length: 0N',
  'Content-Length: +N',
  'Content-Length: -N',
  'Content-Length: N ',
  'Content-Length: N\t',
  'Content-Length: N, N',
  'Content-Length: N;x',
  'Content-Length: 0xN',
  'Content-Length: N_0',
  'Content-Length: N.0',
  'Content-Length: \xb2',
  'Content-Length: 18446744073709551616',
  'Content-Length:',
  'Content_Length: N',
  'Content-Length : N',
  ' Content-Length: N',
  'Content-Length\0: N',
  '\xefContent-Length: N',
  'Transfer-Encoding: chunked ',
  'Transfer-Encoding: chunked\t',
  'Transfer-Encoding: \tchunked',
  'Transfer-Encoding: \x0bchunked',
  'Transfer-Encoding: chunked\x0c',
  'Transfer-Encoding: chunked,',
  'Transfer-Encoding: , chunked',
  'Transfer-Encoding: identity',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: chunked, identity',
  'Transfer-Encoding: xchunked',
  'Transfer-Encoding: "chunked"',
  'Transfer-Encoding: chunked;q=1',
  'Transfer-Encoding:',
  'Transfer_Encoding: chunked',
  'Transfer-Encoding : chunked',
  'Transfer-Encoding\r\n : chunked',
  'Transfer-Encoding:\r\n chunked',
  'Transfer-Encoding: identity\r\n chunked',
  'X: a\r\nTransfer-Encoding: chunked',
];
const OTHERS: readonly [string, ...string[]] = [
  'X-Thing: 1',
  'Accept: */*',
  'X: caf\xe9',
  'X: \xa0',
  'X: a\x85Y: b',
  'X: a\x1cContent-Length: 3',
  'X: a\r\n b',
  'X: a\r\n\tb',
  'X: a\rY: b',
  'X: a\nY: b',
  'X: a\0b',
  'X: a\x7fb',
  'X',
  'X Y: 1',
  'X(: 1',
  ': 1',
  '\t',
  'From me: x',
  'From a b c',
  'Connection: close',
  'Connection: keep-alive',
  'Connection: Content-Length',
  'Connection: Transfer-Encoding, Host',
  'Connection: Upgrade',
  'Upgrade: h2c',
  'Upgrade: websocket',
  'Expect: 100-continue',
  'Expect: 100-Continue',
  'Expect: 200-ok',
  'Trailer: X',
  'TE: trailers',
  'X-Datasource: main',
  'X-Datasource: other',
  'Proxy-Connection: keep-alive',
  'Cookie: a=b',
];
const SIZES: Choices = [
  'H',
  '0H',
  '000000000000000000H',
  'H;a=b',
  'H; a="b\r\n"',
  'H;a=\n',
  'H ',
  ' H',
  'H\t',
  '0xH',
  '+H',
  '-H',
  'H_',
  'H\r',
  'H;\x00',
  '1000000000000000H',
  'H,',
];
const TRAILERS: readonly [string, ...string[]] = [
  '',
  '',
  'X: y\r\n',
  'Content-Length: 3\r\n',
  'Host: evil.test\r\n',
  'X\r\n',
  'X: a\r\n b\r\n',
];
const BODIES: readonly [string, ...string[]] = [
  '',
  'hello',
  'a',
  '0\r\n\r\n',
  'GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n',
];

/** One or two requests, most parts of them right, and behind them one that is. */
export function randomCase(random: Random): Case {
  const inside = random.once(4);
  const many = random.once(3) ? 2 : 1;
  let text = random.once(12) ? '\r\n' : '';
  text += request(random, inside);
  const first = text.length;
  if (many === 2) text += request(random, inside);
  text += lastRequest(inside);
  return { text, inside, heldBack: random.once(3) ? 0 : text.length - first };
}

/** Ends the connection: who reads all before it as it was meant reads this too. */
export function lastRequest(inside: boolean): string {
  const origin = inside ? '' : 'http://api.allowed.test';
  return `GET ${origin}/last HTTP/1.1\r\nHost: api.allowed.test\r\nConnection: close\r\n\r\n`;
}

/** The parts of a request that may be other than plain. */
const PARTS = [
  'method',
  'space',
  'origin',
  'path',
  'path',
  'version',
  'host name',
  'host',
  'colon',
  'framing',
  'framing',
  'framing',
  'second framing',
  'other',
  'other',
  'no host',
  'line end',
  'size',
  'chunk end',
  'trailer',
] as const;
type Part = (typeof PARTS)[number];

/** None of them, or a few. */
function choose(random: Random): (part: Part) => boolean {
  const chosen = new Set<Part>();
  for (let i = random.below(4); i > 0; i -= 1) chosen.add(random.pick(PARTS));
  return (part) => chosen.has(part);
}

function request(random: Random, inside: boolean): string {
  const odd = choose(random);
  const of = (part: Part, choices: Choices): string =>
    odd(part) ? random.pick(choices) : choices[0];
  const body = random.pick(BODIES);
  const method = of('method', body === '' ? METHODS : ['POST', ...METHODS]);
  const alias = !inside && random.once(8);
  const origin = inside ? '' : of('origin', ORIGINS);
  const target = alias ? of('path', ALIASES) : `${origin}${of('path', PATHS)}`;
  const host = alias ? '127.0.0.1:3128' : of('host', HOSTS);
  const headers = [`${of('host name', HOST_NAMES)}${of('colon', COLONS)}${host}`];
  if (odd('no host')) headers.pop();
  const chunked = body !== '' && random.once(2);
  const framing = chunked ? 'Transfer-Encoding: chunked' : 'Content-Length: N';
  if (odd('framing')) headers.push(random.pick(FRAMING));
  else if (body !== '') headers.push(framing);
  if (odd('second framing')) headers.push(random.pick(FRAMING));
  if (odd('other')) headers.push(random.pick(OTHERS));
  const space = of('space', SPACES);
  const lines = [`${method} ${target}${space}${of('version', VERSIONS)}`, ...headers, ''];
  const last = random.below(lines.length);
  const head = lines.map(
    (line, at) => `${line}${at === last ? of('line end', LINE_ENDS) : '\r\n'}`,
  );
  const encoded = chunked ? chunks(random, body, odd) : body;
  return `${head.join('').replaceAll('N', String(body.length))}${encoded}`;
}

function chunks(random: Random, body: string, odd: (part: Part) => boolean): string {
  const at = random.below(body.length);
  const parts = [body.slice(0, at), body.slice(at)].filter((part) => part !== '');
  const text = parts.map((part) => {
    const size = (odd('size') ? random.pick(SIZES) : 'H').replace('H', part.length.toString(16));
    return `${size}\r\n${part}${odd('chunk end') ? random.pick(LINE_ENDS) : '\r\n'}`;
  });
  return `${text.join('')}0\r\n${odd('trailer') ? random.pick(TRAILERS) : ''}\r\n`;
}
