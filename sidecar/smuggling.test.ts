import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { get, reasonOf, rig, send, statusOf, until } from './test-rig.ts';

const HOST = 'Host: api.allowed.test\r\n';
const POST = `POST http://api.allowed.test/v1/ok HTTP/1.1\r\n${HOST}`;
const GET = `GET http://api.allowed.test/v1/ok HTTP/1.1\r\n${HOST}`;
const CHUNKED = `${POST}Transfer-Encoding: chunked\r\n\r\n`;
const utf8 = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

/** What was sent, and what tells it apart. Everything but where it says so is 400. */
const CASES: readonly (readonly [string, string, string, number?])[] = [
  [
    'CL and TE',
    `${POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'cl_and_te',
  ],
  [
    'TE and CL',
    `${POST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
    'cl_and_te',
  ],
  [
    'a space before the colon',
    `${POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
    'header_name',
  ],
  [
    'TE with a vertical tab',
    `${POST}Transfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n`,
    'te_unsupported',
  ],
  [
    'TE identity, chunked',
    `${POST}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n`,
    'te_unsupported',
  ],
  ['TE gzip', `${POST}Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n`, 'te_unsupported'],
  ['TE xchunked', `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, 'te_unsupported'],
  [
    'TE twice',
    `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'te_duplicate',
  ],
  [
    'TE chunked twice in one',
    `${POST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`,
    'te_unsupported',
  ],
  [
    'TE in HTTP/1.0',
    `POST http://api.allowed.test/v1/ok HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'te_http10',
  ],
  ['two lengths', `${POST}Content-Length: 5\r\ncontent-length: 0\r\n\r\nhello`, 'cl_conflict'],
  [
    'one length twice',
    `${POST}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello`,
    'cl_duplicate',
  ],
  ['a list of lengths', `${POST}Content-Length: 5, 5\r\n\r\nhello`, 'cl_invalid'],
  ['length +5', `${POST}Content-Length: +5\r\n\r\nhello`, 'cl_invalid'],
  ['length -1', `${POST}Content-Length: -1\r\n\r\nhello`, 'cl_invalid'],
  ['length 05', `${POST}Content-Length: 05\r\n\r\nhello`, 'cl_invalid'],
  ['length 0x5', `${POST}Content-Length: 0x5\r\n\r\nhello`, 'cl_invalid'],
  ['an empty length', `${POST}Content-Length:\r\n\r\n`, 'cl_invalid'],
  [
    'a length beyond numbers',
    `${POST}Content-Length: 99999999999999999999999\r\n\r\n`,
    'cl_invalid',
  ],
  ['a chunk size that is none', `${CHUNKED}zz\r\nx\r\n0\r\n\r\n`, 'chunk_size'],
  ['a chunk size 0x1', `${CHUNKED}0x1\r\nx\r\n0\r\n\r\n`, 'chunk_size'],
  ['a negative chunk size', `${CHUNKED}-1\r\nx\r\n0\r\n\r\n`, 'chunk_size'],
  ['a chunk size with a space', `${CHUNKED}1 \r\nx\r\n0\r\n\r\n`, 'chunk_size'],
  ['a bad second chunk', `${CHUNKED}1\r\nx\r\nzz\r\n0\r\n\r\n`, 'chunk_size'],
  ['chunks ended by LF', `${CHUNKED}1\nx\n0\n\n`, 'chunk_line'],
  ['a chunk longer than it says', `${CHUNKED}1\r\nxyz\r\n0\r\n\r\n`, 'chunk_line'],
  [
    'an endless chunk extension',
    `${CHUNKED}1;${'a'.repeat(70_000)}\r\nx\r\n0\r\n\r\n`,
    'chunk_ext_too_long',
  ],
  ['a length among trailers', `${CHUNKED}1\r\nx\r\n0\r\nContent-Length: 4\r\n\r\n`, 'cl_and_te'],
  [
    'a host among trailers',
    `${CHUNKED}1\r\nx\r\n0\r\nHost: evil.test\r\n\r\n`,
    'trailer_forbidden',
  ],
  [
    'authorization among trailers',
    `${CHUNKED}1\r\nx\r\n0\r\nAuthorization: x\r\n\r\n`,
    'trailer_forbidden',
  ],
  ['LF only', 'GET http://api.allowed.test/ HTTP/1.1\nHost: api.allowed.test\n\n', 'line_ending'],
  [
    'LF in a header line',
    'GET http://api.allowed.test/ HTTP/1.1\r\nHost: api.allowed.test\nX: y\r\n\r\n',
    'line_ending',
  ],
  [
    'CR in a header line',
    'GET http://api.allowed.test/ HTTP/1.1\r\nHost: api.allowed.test\rX: y\r\n\r\n',
    'line_ending',
  ],
  ['a header without a colon', `${GET}X-Nocolon\r\n\r\n`, 'header_line'],
  ['a header name with brackets', `${GET}X(A): v\r\n\r\n`, 'header_name'],
  ['a folded header', `${GET}X: a\r\n b\r\n\r\n`, 'obs_fold'],
  [
    'a space before the first header',
    `GET http://api.allowed.test/ HTTP/1.1\r\n ${HOST}\r\n`,
    'obs_fold',
  ],
  ['NUL in a header', `${GET}X: a\0b\r\n\r\n`, 'control_char'],
  ['a lower-case version', `GET http://api.allowed.test/ http/1.1\r\n${HOST}\r\n`, 'version'],
  ['HTTP/2.0', `GET http://api.allowed.test/ HTTP/2.0\r\n${HOST}\r\n`, 'version'],
  ['HTTP/1.2', `GET http://api.allowed.test/ HTTP/1.2\r\n${HOST}\r\n`, 'version'],
  ['no version', `GET http://api.allowed.test/\r\n${HOST}\r\n`, 'version'],
  [
    'a space in the target',
    `GET http://api.allowed.test/a b HTTP/1.1\r\n${HOST}\r\n`,
    'request_line_malformed',
  ],
  [
    'a tab behind the method',
    `GET\thttp://api.allowed.test/ HTTP/1.1\r\n${HOST}\r\n`,
    'request_line_malformed',
  ],
  ['two hosts', `${GET}Host: evil.test\r\n\r\n`, 'host_duplicate'],
  ['no host', 'GET http://api.allowed.test/v1/ok HTTP/1.1\r\nX: y\r\n\r\n', 'host_missing'],
  [
    'an upgrade with a body',
    `${POST}Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello`,
    'upgrade_with_body',
  ],
  [
    'CONNECT with a body',
    'CONNECT tls.allowed.test:443 HTTP/1.1\r\nHost: tls.allowed.test:443\r\nContent-Length: 5\r\n\r\nhello',
    'upgrade_with_body',
  ],
  ['too large a head', `${GET}X: ${'a'.repeat(65_536)}\r\n\r\n`, 'header_too_large', 431],
  ['too many headers', `${GET}${'X: y\r\n'.repeat(500)}\r\n`, 'too_many_headers', 431],
  [
    'an unknown method',
    `TRACK /http/api/v1/ok HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n`,
    'method_not_allowed',
    405,
  ],
  [
    'a method that is none',
    `${'A'.repeat(40)} /http/api/v1/ok HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n`,
    'method_not_allowed',
  ],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'method_not_allowed'],
  [
    'CONNECT to a path',
    'CONNECT /http/api/v1/ok HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n',
    'method_not_allowed',
    405,
  ],
  ['the target *', get('*', '127.0.0.1:3128'), 'request_target_malformed'],
  ['a file', get('file:///etc/passwd', 'api.allowed.test'), 'scheme_not_allowed'],
  ['a unix socket', get('unix:/run/docker.sock:/info', 'api.allowed.test'), 'scheme_not_allowed'],
  [
    'http+unix',
    get('http+unix://%2Frun%2Fdocker.sock/info', 'api.allowed.test'),
    'scheme_not_allowed',
  ],
  [
    'a backslash in the host',
    get('http://api.allowed.test\\@evil.test/', 'api.allowed.test'),
    'request_target_malformed',
  ],
  ['a percent in the host', get('http://evil%2etest/', 'api.allowed.test'), 'host_malformed'],
  [
    'full-width letters',
    utf8('CONNECT ａｐｉ.allowed.test:443 HTTP/1.1\r\nHost: x\r\n\r\n'),
    'non_ascii_host',
  ],
  [
    'a slash outside ASCII',
    utf8('GET /http/api/v1/\u2215admin HTTP/1.1\r\nHost: x\r\n\r\n'),
    'path_malformed',
  ],
  [
    'junk behind a bracket',
    'CONNECT [::1]junk:443 HTTP/1.1\r\nHost: [::1]junk:443\r\n\r\n',
    'host_malformed',
  ],
  [
    'a CONNECT without port',
    'CONNECT api.allowed.test HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n',
    'port_malformed',
  ],
  [
    'a CONNECT to port +443',
    'CONNECT api.allowed.test:+443 HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n',
    'port_malformed',
  ],
  [
    'an empty label',
    'CONNECT api..allowed.test:443 HTTP/1.1\r\nHost: api..allowed.test:443\r\n\r\n',
    'host_malformed',
  ],
  ['SSH', 'SSH-2.0-x\r\n', 'request_line_malformed'],
  ['SOCKS4', '\x04\x01\x01\xbb\xcb\x00\x71\x0a\x00', 'request_line_malformed'],
];

function requestRecords(lines: readonly string[]): number {
  return lines.filter((line) => line.includes('"event":"request"')).length;
}

test('what two parsers could read differently is refused, named, recorded once, and goes no further', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const ids = new Map<string, string>();
  for (const [what, bytes, reason, status = 400] of CASES) {
    const answer = await send(runner.door, bytes, 40);
    assert.deepEqual([statusOf(answer), reasonOf(answer)], [status, reason], what);
    ids.set(what, /"requestId":"([^"]+)"/.exec(answer)?.[1] ?? '');
  }
  assert.equal(proxy.requests.length + proxy.tunnels.length, 0, 'nothing was sent on');
  assert.equal(statusOf(await send(runner.door, `${GET}\r\n`, 40)), 200, 'the door still works');
  await runner.unbind();
  const records = proxy.auditLines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ event }) => event === 'request');
  assert.equal(records.length, CASES.length + 1, 'one record each');
  for (const [what, , reason] of CASES) {
    const [record, ...more] = records.filter(({ egressId }) => egressId === ids.get(what));
    assert.deepEqual([record?.['reason'], more.length], [reason, 0], what);
  }
});

test('a request in doubt takes those behind it with it', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const doubtful = `${POST}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n`;
  const answer = await send(runner.door, `${doubtful}${GET}\r\n`);
  assert.equal(answer.match(/HTTP\/1\.1/g)?.length, 1);
  assert.match(answer, /\r\nconnection: close\r\n/i);
  assert.equal(proxy.requests.length, 0);
});

test('a good request before bytes that are none is answered, then the bytes are refused', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const answer = await send(runner.door, `${GET}\r\n\x00\x01garbage\r\n\r\n`);
  assert.deepEqual(
    [...answer.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => match[1]),
    ['200', '400'],
  );
  assert.equal(proxy.requests.length, 1);
});

test('a chunked body that goes wrong on its way never becomes a whole request', async (t) => {
  const { attach, proxy } = await rig(t);
  proxy.answer = () => {};
  const runner = await attach();
  await runner.bind();
  const socket = connect({ path: runner.door });
  socket.on('error', () => {});
  socket.write(`${CHUNKED}5\r\nhello\r\n`);
  await until(() => proxy.requests[0]?.body === 'hello');
  socket.write('zz\r\n');
  await until(() => proxy.ended === 1);
  assert.equal(proxy.requests[0]?.complete, false);
  socket.destroy();
});

test('harmless trailers are dropped, and the request goes on', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const answer = await send(runner.door, `${CHUNKED}1\r\nx\r\n0\r\nX-Checksum: 1\r\n\r\n`, 40);
  assert.equal(statusOf(answer), 200);
  assert.equal(proxy.requests.at(-1)?.body, 'x');
});

test('a head that does not come in time is refused; a connection that says nothing is closed without a record', async (t) => {
  const { attach, proxy } = await rig(t, { headerTimeout: 300 });
  const runner = await attach();
  await runner.bind();
  const answer = await send(runner.door, 'GET http://api.allo', 2_000);
  assert.deepEqual([statusOf(answer), reasonOf(answer)], [408, 'headers_timeout']);
  assert.equal(await send(runner.door, '', 2_000), '');
  await runner.unbind();
  assert.equal(requestRecords(proxy.auditLines), 1);
});

test('more connections than allowed are not taken', async (t) => {
  const { attach, proxy } = await rig(t, { connections: 1 });
  proxy.answer = () => {};
  const runner = await attach();
  await runner.bind();
  const held = connect(runner.door);
  t.after(() => held.destroy());
  held.write(`${GET}\r\n`);
  await until(() => proxy.requests.length === 1);
  const answer = await send(runner.door, `${GET}\r\n`, 2_000);
  assert.deepEqual([statusOf(answer), reasonOf(answer)], [503, 'conn_limit']);
  assert.match(answer, /\r\nretry-after: 1\r\n/);
  assert.equal(await send(runner.door, '\x05\x01\0', 2_000), ''); // of SOCKS5, which has no such answer
  assert.equal(proxy.requests.length, 1);
  held.destroy();
  await runner.unbind();
  assert.ok(proxy.auditLines.some((line) => line.includes('"reason":"conn_limit"')));
});

test('a connection that is opened as others end is taken', async (t) => {
  const { attach } = await rig(t, { connections: 8 });
  const runner = await attach();
  await runner.bind();
  for (let round = 0; round < 20; round++) {
    const held = Array.from({ length: 8 }, () => connect(runner.door));
    await Promise.all(held.map((socket) => once(socket, 'connect')));
    const last = send(runner.door, get('http://api.allowed.test/v1/ok', 'api.allowed.test')); // before the others have ended
    for (const socket of held) socket.destroy();
    assert.equal(statusOf(await last), 200);
  }
});
