import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boundedText, type StreamEvent, streamEvents } from './event-stream.ts';

async function* source(chunks: readonly (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Buffer.from(chunk);
}

async function read(...chunks: readonly (string | Uint8Array)[]): Promise<StreamEvent[]> {
  const events: StreamEvent[] = [];
  for await (const event of streamEvents(source(chunks), 100)) events.push(event);
  return events;
}

async function readData(...chunks: readonly (string | Uint8Array)[]): Promise<unknown[]> {
  return (await read(...chunks)).map(({ data }) => data).filter((data) => data !== undefined);
}

const CASES = [
  ['one event', ['data: {"a":1}\n\n'], ['{"a":1}']],
  ['two events in one chunk', ['data: 1\n\ndata: 2\n\n'], ['1', '2']],
  ['an event in many chunks', ['da', 'ta: ', '1', '\n', '\n'], ['1']],
  ['CRLF', ['data: 1\r\n\r\n'], ['1']],
  ['CR', ['data: 1\r\rdata: 2\r\r'], ['1', '2']],
  ['a CRLF cut in half', ['data: 1\r', '\n\r', '\ndata: 2\r\n\r\n'], ['1', '2']],
  ['a line end behind a CR that ended a chunk', ['data: 1\r', '\r', '\ndata: 2\n\n'], ['1', '2']],
  ['lines of data are joined', ['data: {\ndata: }\n\n'], ['{\n}']],
  ['one space after the colon is not data, a second is', ['data:a\n\ndata:  b\n\n'], ['a', ' b']],
  ['an empty line of data is data', ['data\n\n'], ['']],
  ['comments and other fields', [': hi\n\nid: 7\nretry: 1\nother: x\ndata: 1\n\n'], ['1']],
  ['an event that says it is a message', ['event: message\ndata: 1\n\n'], ['1']],
  ['an event of another type is no message', ['data: 1\nevent: incomplete\n\ndata: 2\n\n'], ['2']],
  ['an event without data has none', ['id: 7\n\n'], []],
  ['an event that breaks off is none', ['data: 1\n\ndata: 2\n'], ['1']],
  ['nothing', [], []],
] as const;

for (const [what, chunks, expected] of CASES)
  test(`reads ${what}`, async () => {
    assert.deepEqual(await readData(...chunks), expected);
  });

test('a letter cut in half by a chunk is whole again', async () => {
  const bytes = Buffer.from('data: höhe\n\n');
  const cut = bytes.indexOf(0xc3) + 1;
  assert.deepEqual(await readData(bytes.subarray(0, cut), bytes.subarray(cut)), ['höhe']);
});

const POSITIONS = [
  ['id: 7\nretry: 100\n\n', [{ id: '7', retryMs: 100, data: undefined }]],
  ['id\ndata: 1\n\n', [{ id: '', retryMs: undefined, data: '1' }]],
  ['id: a\0b\nretry: 1s\ndata: 1\n\n', [{ id: undefined, retryMs: undefined, data: '1' }]],
  ['event: x\n\n', []],
  ['id: 7\n', []],
] as const;

for (const [text, expected] of POSITIONS)
  test(`the position of ${JSON.stringify(text)}`, async () => {
    assert.deepEqual(await read(text), expected);
  });

for (const [what, chunks] of [
  ['a line without end', ['data: ', 'x'.repeat(60), 'x'.repeat(60)]],
  ['an event without end', [`data: ${'x'.repeat(60)}\n`, `data: ${'x'.repeat(60)}\n`]],
] as const)
  test(`${what} is refused`, async () => {
    await assert.rejects(read(...chunks), { code: 'BODY_TOO_LARGE' });
  });

test('comments without end are not kept', async () => {
  assert.deepEqual(await readData(...Array.from({ length: 9 }, () => `: ${'x'.repeat(60)}\n`)), []);
});

test('a body is read up to its bound', async () => {
  assert.equal(await boundedText(source(['höhe', '!']), 5), 'höhe!');
  await assert.rejects(boundedText(source(['höhe', '!!']), 5), { code: 'BODY_TOO_LARGE' });
});
