import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { startGateway, startHttp } from '../testing.ts';
import { assertReadAsWritten } from './media-type.ts';

const REFUSED = [
  'application/json; charset=utf-7',
  'application/json;CHARSET="UTF-16"',
  'application/json; charset=utf8',
  'application/json; charset="utf\\-8"',
  'application/json; charset=',
  'application/json; charset',
  'application/json; charset =utf-8',
  'application/json; charset=utf-8; charset=utf-7',
  'application/json; charset=utf-8; charset=utf-8',
  'application/json; a="; b; charset=utf-7',
  'application/json, application/json; charset=utf-7',
  'text/plain; charset=utf-7',
  'application/json; charset=utf-7; a="',
  'json',
  '',
];

for (const type of REFUSED)
  test(`415 for ${JSON.stringify(type)}`, () => {
    assert.throws(() => assertReadAsWritten({ 'content-type': type }), {
      code: 'UNSUPPORTED_MEDIA_TYPE',
    });
  });

const TAKEN = [
  undefined,
  'application/json',
  'Application/JSON',
  'application/json;charset=utf-8',
  'application/json ; Charset="UTF-8" ;',
  'application/json; a="; charset=utf-7"',
  'text/plain;charset=UTF-8',
];

for (const type of TAKEN)
  test(`control: ${type ?? 'no media type'} is taken`, () => {
    assertReadAsWritten(type === undefined ? {} : { 'content-type': type });
  });

test('a media type is read in time that grows with its length alone', () => {
  const long = `a/b${';       '.repeat(2_000)}`;
  assertReadAsWritten({ 'content-type': long });
  assert.throws(() => assertReadAsWritten({ 'content-type': `${long}=` }), {
    code: 'UNSUPPORTED_MEDIA_TYPE',
  });
});

test('a body that a server would decode is refused, and no server hears of it', async (t) => {
  const heard: (readonly [string | undefined, string])[] = [];
  const server = await startHttp(t, async (asked, response) => {
    heard.push([asked.headers['content-type'], await text(asked)]);
    response.end('{}');
  });
  const gateway = await startGateway(t, [server]);
  const { host } = new URL(gateway.origin);
  const send = async (headers: readonly string[], body: string | Buffer, method = 'POST') => {
    const sent = request(`${gateway.origin}/mcp`, {
      method,
      headers: [
        'host',
        host,
        'authorization',
        gateway.authorization,
        'content-length',
        String(body.length),
        ...headers,
      ],
    });
    sent.end(body);
    const [response]: IncomingMessage[] = await once(sent, 'response');
    assert.ok(response);
    return [response.statusCode, await text(response)] as const;
  };
  const call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}';
  /** A call for whoever reads it as UTF-7, and a ping for whoever does not. */
  const hidden = '{"jsonrpc":"2.0","id":1,"method":"ping","+AG0-ethod":"tools/call"}';
  const utf7 = ['content-type', 'application/json; charset=utf-7'];
  for (const [headers, body, method] of [
    [utf7, hidden, 'POST'],
    [[...utf7, 'content-type', 'application/json'], hidden, 'POST'],
    [utf7, hidden, 'DELETE'],
    [['content-encoding', 'gzip', 'content-type', 'application/json'], gzipSync(call), 'POST'],
    [['content-encoding', 'identity, br'], call, 'POST'],
  ] as const) {
    const [status, said] = await send(headers, body, method);
    assert.equal(status, 415, headers.join(' '));
    assert.equal(JSON.parse(said).error.data.code, 'UNSUPPORTED_MEDIA_TYPE');
  }
  assert.deepEqual(heard, []);
  for (const headers of [
    ['content-type', 'application/json; charset=utf-8'],
    ['content-type', 'text/plain', 'content-encoding', 'Identity'],
    ['content-type', 'application/json', 'Content-Type', 'application/json; charset=utf-7'],
    [],
  ]) {
    assert.equal((await send(headers, call))[0], 200, 'control');
    assert.deepEqual(heard.pop(), ['application/json', call], 'it is named as what it was read as');
  }
});
