import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerWatch } from './call-outcome.ts';

const error = { jsonrpc: '2.0', id: 1, error: { code: -32_602, message: 'no' } };
const answer = (result: object) => ({ jsonrpc: '2.0', id: 1, result });
const failed = answer({ content: [{ type: 'text', text: '"\\' }], isError: true });
const own = answer({
  content: [{ type: 'text', text: '{"error":{"code":1}}' }],
  structuredContent: { error: { code: 1, message: 'of the tool' }, isError: true },
  isError: false,
});
const written = (value: unknown, indent = 0) => JSON.stringify(value, undefined, indent);
const event = (value: unknown, indent = 0) =>
  `${written(value, indent).replaceAll(/^/gm, 'data: ')}\n\n`;

const CASES = [
  [written(answer({ content: [] })), 'ok', 'a result'],
  [written(error), 'error', 'an error'],
  [written({ ...error, error: { message: 'no', data: 1, code: 1 } }), 'error', 'in any order'],
  [written(error, 4), 'error', 'an error that is written over several lines'],
  [written(error, 10), 'error', 'with any space'],
  [written([answer({}), error]), 'error', 'in a batch'],
  [written({ ...answer({}), error: null }), 'ok', 'no error'],
  [written(failed), 'failed', 'the word of the tool'],
  [written(failed, 4), 'failed', 'over several lines'],
  [written([answer({}), failed]), 'failed', 'in a batch'],
  [written(own), 'ok', "a tool's own error is its result"],
  [written(own, 4), 'ok', 'over several lines'],
  [written({ jsonrpc: '2.0', id: 'error', result: { isError: false } }), 'ok', 'a value is no key'],
  [`: {"say \n\nid: 1"\n\n${event(own)}`, 'ok', 'events behind odd comments'],
  [`: {"say \n\nid: 1"\n\n${event(failed)}`, 'failed', 'events behind odd comments'],
  [
    `: ping\r\n\r\n${event({ method: 'x', params: { error: {} } })}${event(error, 2)}`,
    'error',
    'in an event',
  ],
  [`event: message\nid: 7\n${event(error)}`, 'error', 'in an event with an id'],
] as const;

for (const [text, outcome, why] of CASES)
  test(`${outcome}: ${why}, however it is cut: ${text.slice(0, 40)}`, () => {
    for (let size = 1; size <= text.length; size++) {
      const watch = new AnswerWatch();
      for (let at = 0; at < text.length; at += size) watch.see(text.slice(at, at + size));
      assert.equal(watch.outcome(200), outcome, `in pieces of ${size}`);
      assert.equal(watch.bytes, text.length);
    }
  });

test('a status says more than a body, and none that nobody waited', () => {
  const watch = new AnswerWatch();
  watch.see(written(answer({})));
  assert.equal(watch.outcome(502), 'error');
  assert.equal(watch.outcome(undefined), 'cancelled');
});
