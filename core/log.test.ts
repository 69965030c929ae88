import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { OutriderError } from './errors.ts';
import { createLogger } from './log.ts';

function logged(level: 'debug' | 'info' | 'warn' | 'error' = 'info') {
  const stream = new PassThrough();
  const text = () => String(stream.read() ?? '');
  return { log: createLogger('proxy', level, stream), text };
}

test('one JSON line a record, with part, level, time and the fixed fields', () => {
  const { log, text } = logged();
  log.warn('something', { requestId: 'r', detail: { step: 'x' } });
  const { time, ...rest }: Record<string, unknown> = JSON.parse(text());
  assert.deepEqual(rest, {
    part: 'proxy',
    level: 'warn',
    requestId: 'r',
    detail: { step: 'x' },
    msg: 'something',
  });
  assert.match(String(time), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
});

test('below the level nothing is written', () => {
  const { log, text } = logged('warn');
  log.debug('a');
  log.info('b');
  assert.equal(text(), '');
  log.error('c');
  assert.match(text(), /"msg":"c"/);
});

test('an error is its code and its causes; only a fault of ours has a stack', () => {
  const { log, text } = logged();
  const cause = new Error('refused by 10.0.0.1');
  log.info('x', { error: new OutriderError('NOT_FOUND', 'not here', { cause }) });
  const ours: Record<string, unknown> = JSON.parse(text());
  assert.deepEqual(
    [ours['code'], ours['cause'], ours['stack']],
    ['NOT_FOUND', ['OutriderError: not here', 'Error: refused by 10.0.0.1'], undefined],
  );
  log.error('x', { error: cause });
  assert.match(String(JSON.parse(text()).stack), /log\.test/);
});

test('text that looks like a token never passes', () => {
  const { log, text } = logged();
  const token = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln';
  log.error(`failed with\n${token}`, {
    error: new Error(`Bearer ${token}`),
    detail: { url: `http://u:pw@h/` },
  });
  const line = text();
  assert.doesNotMatch(line, /c2ln|:pw@/);
  assert.doesNotThrow(() => JSON.parse(line));
});
