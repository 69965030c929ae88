import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventData } from './event-stream.ts';

async function read(...chunks: readonly (string | Uint8Array)[]): Promise<string[]> {
  const source = (async function* () {
    for (const chunk of chunks) yield Buffer.from(chunk);
  })();
  const data: string[] = [];
  for await (const item of eventData(source)) data.push(item);
  return data;
}

const CASES = [
  ['one event', ['data: {"a":1}\n\n'], ['{"a":1}']],
  ['two events in one chunk', ['data: 1\n\ndata: 2\n\n'], ['1', '2']],
  ['an event in many chunks', ['da', 'ta: ', '1', '\n', '\n'], ['1']],
  ['CRLF', ['data: 1\r\n\r\n'], ['1']],
  ['CR', ['data: 1\r\rdata: 2\r\r'], ['1', '2']],
  ['a CRLF cut in half', ['data: 1\r', '\n\r', '\ndata: 2\r\n\r\n'], ['1', '2']],
  ['lines of data are joined', ['data: {\ndata: }\n\n'], ['{\n}']],
  ['one space after the colon is not data, a second is', ['data:a\n\ndata:  b\n\n'], ['a', ' b']],
  ['an empty line of data is data', ['data\n\n'], ['']],
  ['comments and other fields', [': hi\n\nid: 7\nretry: 1\nevent: x\ndata: 1\n\n'], ['1']],
  ['an event without data is none', ['id: 7\n\n'], []],
  ['an event that breaks off is none', ['data: 1\n\ndata: 2\n'], ['1']],
  ['nothing', [], []],
] as const;

for (const [what, chunks, expected] of CASES)
  test(`reads ${what}`, async () => {
    assert.deepEqual(await read(...chunks), expected);
  });

test('a letter cut in half by a chunk is whole again', async () => {
  const bytes = Buffer.from('data: höhe\n\n');
  const cut = bytes.indexOf(0xc3) + 1;
  assert.deepEqual(await read(bytes.subarray(0, cut), bytes.subarray(cut)), ['höhe']);
});
