import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readMessages, toolOf } from './message.ts';

const AMBIGUOUS = [
  ['{"method":"tools/list","method":"tools/call","params":{"name":"x"}}', 'the method twice'],
  ['{"method":"ping","Method":"tools/call"}', 'for a parser that ignores case, twice'],
  ['{"METHOD":"tools/call","params":{"name":"x"}}', 'another case alone'],
  ['{"m\\u0065thod":"a","method":"b"}', 'an escape is another spelling'],
  ['{"method":"tools/call","params":{"name":"ok","name":"bad"}}', 'the name twice'],
  ['{"method":"tools/call","params":{"name":"ok","Name":"bad"}}', 'the name in another case'],
  ['{"method":"tools/call","params":{"name":"ok"},"params":{"name":"bad"}}', 'params twice'],
  ['{"method":"tools/call","params":{"name":"ok"},"param\u017f":{"name":"bad"}}', 'a long s'],
  ['[{"method":"ping"},{"method":"a","method":"b"}]', 'in a batch'],
  ['[{"a":[1]},{"method":"tools/call","params":{"name":"a","name":"b"}}]', 'behind a list'],
  ['{"method":"tools/call","Params":{"name":"a","name":"b"}}', 'in params of another case'],
  ['{"a":"\\\\","params" : {"b":"\\\\\\"","name":"x", "name" :"y"}}', 'behind backslashes'],
  ['{"params":{"\u006eame":"x","name":"y"}}', 'a name and its escape'],
  ['{"params":{"__proto__":1,"__proto__":2}}', 'a key that objects have'],
  ['{"params":{"name":"t","arguments":{"a":1,"A":2,"a":3}}}', 'an argument twice'],
  ['{"params":{"Arguments":{"\\u0061":1,"a":2}}}', 'an argument and its escape'],
  ['[{"params":{"arguments":{"a":{"b":1},"a":1}}}]', 'an argument twice, in a batch'],
  ['{"params":{"a":[{"b":"}"}],"c":"\\"","name":"x","name":"y"}}', 'behind brackets in texts'],
] as const;

for (const [text, why] of AMBIGUOUS)
  test(`refused: ${why}`, () => {
    assert.throws(() => readMessages(Buffer.from(text)), { code: 'INVALID_REQUEST' });
  });

const CLEAR = [
  ['{"method":"tools/call","params":{"name":"t","arguments":{"a":1,"A":2}}}', 't'],
  ['{"method":"tools/call","params":{"name":"t","arguments":{"a":{"b":1,"b":2}}}}', 't'],
  ['{"method":"tools/call","params":{"name":"t","arguments":[{"b":1,"b":2}]}}', 't'],
  ['{"method":"tools/call","params":{"name":"t","x":{"b":1,"b":2}}}', 't'],
  ['{"method":"tools/call","params":{"name":"t","arguments":{"method":"x","name":"y"}}}', 't'],
  ['{"method":"tools/call","params":{"arguments":{"name":"y"},"name":"t"}}', 't'],
  ['{"method":"tools/call","params":{"name":"\\u0074"}}', 't'],
  ['{"method":"tools/call","params":{"name":7}}', ''],
  ['{"method":"tools/call","params":["t"]}', ''],
  ['{"method":"tools/call"}', ''],
  ['{"method":"tools/list","params":{"name":"t"}}', undefined],
  ['{"id":1,"result":{"method":"tools/call","name":"t","name":"u"}}', undefined],
  ['{"params":{},"result":{"name":"t","name":"u"}}', undefined],
  ['{"params":{"":"","a":{"params":{"b":1,"b":2}}}}', undefined],
] as const;

for (const [text, tool] of CLEAR)
  test(`${text} calls ${tool === undefined ? 'no tool' : `"${tool}"`}`, () => {
    const [message] = readMessages(Buffer.from(text));
    assert.ok(message);
    assert.equal(toolOf(message), tool);
  });

test('a batch holds its messages', () => {
  const batch = readMessages(Buffer.from('[{"id":1,"method":"a"},{"id":"x","method":"b"}]'));
  assert.deepEqual(
    batch.map(({ id, method }) => [id, method]),
    [
      [1, 'a'],
      ['x', 'b'],
    ],
  );
});

const NO_MESSAGES = [
  ['', -32_700, 'nothing'],
  ['{', -32_700, 'half of JSON'],
  ['{"a":1}x', -32_700, 'more than JSON'],
  ['\ufeff{"method":"ping"}', -32_700, 'a byte order mark, which some parsers drop'],
  [Buffer.from('{"method":"ping","a":"\xff"}', 'latin1'), -32_700, 'no UTF-8'],
  ['[]', -32_600, 'an empty batch'],
  ['"tools/call"', -32_600, 'a text'],
  ['null', -32_600, 'null'],
  ['[{"method":"ping"},[{"a":1}]]', -32_600, 'a batch with something else in it'],
] as const;

for (const [body, rpcCode, why] of NO_MESSAGES)
  test(`${rpcCode} for what is no message: ${why}`, () => {
    const error = { code: 'INVALID_REQUEST', rpcCode, rpcId: null };
    assert.throws(() => readMessages(Buffer.from(body)), error);
  });

test('a message that is nested thousands of times is read, short as it is', () => {
  for (const [open, close] of [
    ['[', ']'],
    ['[{"0":', '}]'],
  ] as const)
    for (const depth of [10, 300, 6_000]) {
      const value = `${open.repeat(depth)}{"0":1}${close.repeat(depth)}`;
      const text = `{"method":"tools/call","params":{"name":"t","arguments":{"a":${value}}}}`;
      assert.equal(readMessages(Buffer.from(text))[0]?.method, 'tools/call', `${open} ${depth}`);
    }
});
