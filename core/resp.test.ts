import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Reply, ReplyReader } from './resp.ts';

const CASES: readonly [string, readonly Reply[], string][] = [
  ['+OK\r\n', ['OK'], 'a word'],
  [':42\r\n', [42], 'a number'],
  [':9007199254740991\r\n', [Number.MAX_SAFE_INTEGER], 'a large number'],
  ['$-1\r\n', [null], 'nothing of that name'],
  ['$0\r\n\r\n', [''], 'an empty text'],
  ['$6\r\na\r\nbäc\r\n'.replace('äc', 'c1'), ['a\r\nbc1'], 'a text with ends of lines in it'],
  ['*3\r\n:1\r\n*1\r\n$1\r\na\r\n*0\r\n', [[1, ['a'], []]], 'a list with lists in it'],
  ['+OK\r\n$2\r\nhi\r\n$-1\r\n', ['OK', 'hi', null], 'several'],
];

for (const [text, wanted, what] of CASES)
  test(`${what} is read, in however many pieces it comes`, () => {
    const bytes = Buffer.from(text);
    assert.deepEqual(new ReplyReader().push(bytes), wanted);
    const reader = new ReplyReader();
    assert.deepEqual(
      [...bytes].flatMap((byte) => reader.push(Buffer.from([byte]))),
      wanted,
    );
  });

test('a refusal is an error that tells its kind and nothing of what was asked', () => {
  const [reply] = new ReplyReader().push(Buffer.from("-ERR unknown command 'hunter2'\r\n"));
  assert.ok(reply instanceof Error);
  assert.match(reply.message, /ERR/);
  assert.doesNotMatch(reply.message, /hunter2/);
});

for (const [text, what] of [
  ['HTTP/1.1 400 Bad Request\r\n', 'another protocol'],
  ['$99999999\r\n', 'a text longer than any that was asked for'],
  ['*99999999\r\n', 'a list longer than any that was asked for'],
  [':9007199254740992\r\n', 'a number that is not exact'],
  ['$x\r\n', 'a length that is none'],
  ['+'.padEnd(70_000, 'x'), 'a line without end'],
] as const)
  test(`${what} is no answer of a Redis`, () => {
    assert.throws(() => new ReplyReader().push(Buffer.from(text)));
  });
