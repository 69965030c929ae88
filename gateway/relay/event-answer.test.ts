import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import { OutriderError } from '#core/errors';
import { startHttp } from '../testing.ts';
import { AsEvent, EventAnswer } from './event-answer.ts';

const LOST = new OutriderError('UPSTREAM_LOST', 'lost');

/** What a client has got when an answer to the requests 1 and "two" has passed up to here, and then failed; undefined: it is cut off. */
async function failed(t: TestContext, pieces: readonly string[]): Promise<string | undefined> {
  const url = await startHttp(t, (request, response: ServerResponse) => {
    request.resume();
    const answer = new EventAnswer(response, [1, 'two']);
    answer.open();
    for (const piece of pieces) {
      answer.see(piece);
      response.write(Buffer.from(piece, 'latin1'));
    }
    if (answer.owes) answer.fail(LOST);
    else response.destroy();
  });
  try {
    return await (await fetch(url, { method: 'POST' })).text();
  } catch {
    return undefined;
  }
}

/** The messages in a stream, as https://html.spec.whatwg.org/multipage/server-sent-events.html reads it. */
function messagesOf(stream: string): unknown[] {
  const messages: unknown[] = [];
  let [type, data]: [string, string[]] = ['', []];
  for (const line of stream.split(/\r\n|\r|\n/)) {
    const [, name, value = ''] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
    if (name === 'event') type = value;
    if (name === 'data') data.push(value);
    if (line !== '') continue;
    if (data.length > 0 && ['', 'message'].includes(type))
      messages.push(JSON.parse(data.join('\n')));
    [type, data] = ['', []];
  }
  return messages;
}

const idsOf = (stream: string | undefined) =>
  messagesOf(stream ?? '').flatMap((message) => Object(message).id ?? []);

const STREAM =
  ': here\n\nretry: 5\n\nevent: message\r\ndata: {"jsonrpc":"2.0",\r\ndata: "method":"notifications/progress","params":{"result":0}}\r\n\r\n:\rdata: {"id":1,"result":{}}\r\rdata: {"method":"ping","id":7}\n\nevent: x';

test('wherever a stream breaks off, each request is answered once, and nothing half is read as a message', async (t) => {
  for (let at = 0; at <= STREAM.length; at++) {
    const before = STREAM.slice(0, at);
    const whole = await failed(t, [before]);
    const single = await failed(t, before.split(''));
    assert.equal(whole, single, JSON.stringify(before));
    const ids = idsOf(whole);
    assert.deepEqual(
      ids.filter((id) => id !== 7),
      [1, 'two'],
      JSON.stringify(whole),
    );
  }
});

test('the error says that nobody knows whether the call took effect', async (t) => {
  const [first] = messagesOf((await failed(t, [': here\n\n'])) ?? '');
  const data = { code: 'UPSTREAM_LOST', retryable: true, executed: 'unknown' };
  assert.deepEqual(first, {
    jsonrpc: '2.0',
    id: 1,
    error: { code: -32_000, message: 'lost', data },
  });
});

const CUT = [
  ['id: 1\ndata:\n\n', 'its client asks for the rest'],
  ['id:1\rdata: {}\r\r', 'in other words'],
  [`data: [{"id":1,"result":{}},{"id":"two","error":{}}]\n\n`, 'all is answered'],
] as const;
for (const [stream, why] of CUT)
  test(`is cut off after ${JSON.stringify(stream)}: ${why}`, async (t) => {
    assert.equal(await failed(t, [stream]), undefined);
  });

test('answers behind many messages that look like some, and long ones, are found', async (t) => {
  const noise = `data: {"method":"m","params":{"result":"${'x'.repeat(1_000)}"}}\n\n`;
  const pieces = [
    ...Array.from({ length: 200 }, () => noise),
    `data: {"id":1,"result":"${'x'.repeat(60_000)}"}\n\n`,
  ];
  assert.deepEqual(idsOf(await failed(t, pieces)), [1, 'two']);
});

const BLANK = [
  ['', true],
  [': a\n\n', true],
  [': a\n: b', true],
  ['retry: 5\n\n', true],
  ['d', false],
  ['data: {}\n', false],
  ['data: {}\n\n', false],
  ['id: 1\n\n', false],
] as const;
for (const [stream, isBlank] of BLANK)
  test(`another server may ${isBlank ? '' : 'not '}answer after ${JSON.stringify(stream)}`, async (t) => {
    let blank: boolean | undefined;
    const url = await startHttp(t, (request, response) => {
      request.resume();
      const answer = new EventAnswer(response, [1]);
      answer.open();
      answer.see(stream);
      blank = answer.isBlank;
      response.end();
    });
    await fetch(url);
    assert.equal(blank, isBlank);
  });

test('a JSON answer becomes the data of one event', () => {
  const event = new AsEvent();
  const pieces = ['', ' {\r', '\n  "id":\n1, "result": "水"', '}\n'].map((text) =>
    event.piece(Buffer.from(text)),
  );
  const text = Buffer.concat([...pieces, event.rest()]).toString();
  assert.deepEqual(messagesOf(text), [{ id: 1, result: '水' }]);
});
