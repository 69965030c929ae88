import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChangeMessage, rewriteMessages } from './rewrite.ts';

const EVENTS = { 'content-type': 'text/event-stream' };
const JSON_ANSWER = { 'content-type': 'application/json' };

/** Changes messages with `"old"` in them. */
const change: ChangeMessage = (message) =>
  Object.hasOwn(Object(message), 'old') ? { new: 'höhe' } : undefined;

function rewritten(headers: Record<string, string>, pieces: readonly Buffer[]): string {
  const rewrite = rewriteMessages(headers, change);
  assert.ok(rewrite);
  return Buffer.concat([...pieces.map((piece) => rewrite.piece(piece)), rewrite.rest()]).toString();
}

const CASES = [
  ['data: {"x":1}\n\n', 'data: {"x":1}\n\n', 'other messages'],
  [': ping\n\n', ': ping\n\n', 'comments'],
  ['id: 1\nretry: 5\ndata:\n\n', 'id: 1\nretry: 5\ndata:\n\n', 'events without a message'],
  ['data: {"old":1}\n\n', 'data: {"new":"höhe"}\n\n', 'the message'],
  ['data:{"old":1}\r\n\r\n', 'data: {"new":"höhe"}\n\n', 'other line ends'],
  ['data: {"old":1}\r\r', 'data: {"new":"höhe"}\n\n', 'bare carriage returns'],
  ['data: {"old":\ndata: 1}\n\n', 'data: {"new":"höhe"}\n\n', 'data in two lines'],
  [
    'event: message\nid: 7\ndata: {"old":1}\nretry: 1\n\n',
    'event: message\nid: 7\nretry: 1\ndata: {"new":"höhe"}\n\n',
    'the other fields of the event stay',
  ],
  ['data: [{"old":1},{"y":2}]\n\n', 'data: [{"new":"höhe"},{"y":2}]\n\n', 'one of a batch'],
  [
    'data: {"x":"水"}\n\ndata: {"old":1}',
    'data: {"x":"水"}\n\ndata: {"new":"höhe"}\n\n',
    'the last',
  ],
  [
    'data: {"old":1}\r\n\rdata: {"old":2}\n\r\ndata: {"old":3}\r\n\n',
    'data: {"new":"höhe"}\n\n'.repeat(3),
    'blank lines of mixed line ends',
  ],
  [
    'id: 1\r\rdata: {"x":1}\r\n\r\n: a\r\n\r',
    'id: 1\r\rdata: {"x":1}\r\n\r\n: a\r\n\r',
    'any line ends of what passes',
  ],
  [
    'data: {"old":\rdata: 1}\n\ndata: {"old":2}\r\rdata: {"x":1}\n\n',
    'data: {"new":"höhe"}\n\ndata: {"new":"höhe"}\n\ndata: {"x":1}\n\n',
    'line ends of one kind behind those of another',
  ],
  ['\ufeffdata: {"old":1}\n\n', '\ufeffdata: {"new":"höhe"}\n\n', 'a byte order mark'],
  [
    '\ufeff\ufeffdata: {"x":1}\n\n',
    '\ufeff\ufeffdata: {"x":1}\n\n',
    'a second mark, which is a part of the field',
  ],
  [
    'data: {"old":1}\n\ufeffdata: 1\nid: 1\n\n',
    'id: 1\ndata: {"new":"höhe"}\n\n',
    'a mark before another line, which comes to be the first',
  ],
  ['\ufeff\n: a\n\n', '\ufeff\n: a\n\n', 'a byte order mark and no event'],
  ['\uff1a: 1\n', '\uff1a: 1\n', 'what begins as a mark does'],
  ['', '', 'nothing'],
] as const;

for (const [before, after, what] of CASES)
  test(`events: ${what}: ${JSON.stringify(before)}, whole, byte by byte and in any two pieces`, () => {
    const bytes = Buffer.from(before);
    assert.equal(rewritten(EVENTS, [bytes]), after);
    const single = Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
    assert.equal(rewritten(EVENTS, single), after);
    for (let at = 1; at < bytes.length; at++)
      assert.equal(rewritten(EVENTS, [bytes.subarray(0, at), bytes.subarray(at)]), after, `${at}`);
  });

test('an event goes on as soon as it is whole, a comment as soon as its line is', () => {
  const rewrite = rewriteMessages(EVENTS, change);
  const piece = (text: string) => rewrite?.piece(Buffer.from(text)).toString();
  assert.equal(piece(': pi'), '');
  assert.equal(piece('ng\n'), ': ping\n');
  assert.equal(piece('\ndata: {'), '\n');
  assert.equal(piece('"old":1}\n'), '');
  assert.equal(piece('\n: ping\r'), 'data: {"new":"höhe"}\n\n: ping\r');
  assert.equal(piece('\n:\n'), '\n:\n');
});

test('a JSON answer is changed as a whole, or keeps its bytes', () => {
  assert.equal(
    rewritten(JSON_ANSWER, [Buffer.from('{"old"'), Buffer.from(':1}')]),
    '{"new":"höhe"}',
  );
  assert.equal(rewritten(JSON_ANSWER, [Buffer.from(' {"x" : 1.0}\n')]), ' {"x" : 1.0}\n');
  assert.equal(rewritten(JSON_ANSWER, [Buffer.from('\ufeff{"old":1}')]), '{"new":"höhe"}');
  assert.equal(rewritten({}, [Buffer.from('{"old":1}')]), '{"new":"höhe"}', 'whatever its type');
});

/** Takes `"old"` out, and leaves the rest. */
const without: ChangeMessage = (message) => {
  const { old, ...rest } = Object(message);
  return old === undefined ? undefined : rest;
};

const NUMBERS = '9223372036854775807,-0,1.0,1e400,1E2,0.1,7,-1,12345678901234567890.5e-3';

test('numbers of a message that is changed stay as they are written', () => {
  const json = (first: string) =>
    `[{${first}"a":[${NUMBERS},"1.0"],"b":{"maximum":9223372036854775807}},{"c":1.50,"__proto__":2.0}]`;
  const rewrite = rewriteMessages(JSON_ANSWER, without);
  rewrite?.piece(Buffer.from(json('"old":1.0,')));
  assert.equal(rewrite?.rest().toString(), json(''));
});

test('a message that is nested too deep to be written again is not passed on as it was', () => {
  const deep = (key: string) => `{"${key}":1,"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
  const rest = (text: string) => {
    const rewrite = rewriteMessages(JSON_ANSWER, without);
    rewrite?.piece(Buffer.from(text));
    return rewrite?.rest().toString();
  };
  assert.throws(() => rest(deep('old')), { code: 'UPSTREAM_UNREACHABLE' });
  assert.equal(rest(deep('x')), deep('x'), 'control: what is left alone passes');
});

test('an event stream is one in whatever case its type is written', () => {
  const bytes = Buffer.from('data: {"old":1}\n\n');
  for (const type of [
    'Text/Event-Stream',
    'text/event-stream;charset=utf-8',
    'TEXT/EVENT-STREAM ; a=b',
  ])
    assert.equal(rewritten({ 'content-type': type }, [bytes]), 'data: {"new":"höhe"}\n\n', type);
  const other = rewritten({ 'content-type': 'text/event-streams' }, [bytes]);
  assert.equal(other, bytes.toString(), 'control: another type is none');
});

const LARGE = 5 * 2 ** 20;
/** An event of more than is kept, with `text` behind most of it, or before; in pieces of `pieceBytes` that may end anywhere. */
const largeEvent = (text: string, behind: boolean, lineEnd = '\n') =>
  `id: 1${lineEnd}data: {${behind ? '' : text}"a":"${'\\"tools\\" '.repeat(LARGE / 10)}"${behind ? text : ''}}${lineEnd}${lineEnd}`;

function inPieces(text: string, pieceBytes: number): readonly Buffer[] {
  const bytes = Buffer.from(text);
  const count = Math.ceil(bytes.length / pieceBytes);
  return Array.from({ length: count }, (_, n) =>
    bytes.subarray(n * pieceBytes, (n + 1) * pieceBytes),
  );
}

for (const [lineEnd, pieceBytes] of [
  ['\n', 65_536],
  ['\r\n', 65_521],
  ['\r', 7 * LARGE],
  ['\r\n', 1_009],
] as const)
  test(`an event that is too large to be kept passes where it is no list, and the next is looked at: ${JSON.stringify(lineEnd)} in pieces of ${pieceBytes}`, () => {
    const before = largeEvent(',"b":1', true, lineEnd);
    const next = 'data: {"old":1}\n\n';
    assert.equal(
      rewritten(EVENTS, inPieces(`${before}${next}`, pieceBytes)),
      `${before}data: {"new":"höhe"}\n\n`,
    );
    assert.equal(
      rewritten(EVENTS, inPieces(before.trimEnd(), pieceBytes)),
      before.trimEnd(),
      'half',
    );
  });

for (const behind of [true, false])
  for (const key of ['"tools"', '"t\\u006F\\u006fls"', '"\\u0074\\u006f\\u006f\\u006c\\u0073"'])
    test(`an event that is too large to be kept is cut where it may be a list: ${key} ${behind ? 'behind' : 'before'} the rest`, () => {
      const text = behind ? `,${key}:[]` : `${key}:[],`;
      for (const pieceBytes of [65_536, 1_009]) {
        const rewrite = rewriteMessages(EVENTS, change);
        let passed = '';
        const pass = () => {
          for (const piece of inPieces(largeEvent(text, behind), pieceBytes))
            passed += rewrite?.piece(piece).toString('latin1');
        };
        assert.throws(pass, { code: 'UPSTREAM_UNREACHABLE' });
        assert.ok(!passed.includes(':[]'), 'nothing of the list has passed');
        assert.ok(!passed.includes('\n\n'), 'nor has the event ended');
      }
    });

test('what cannot be read is not passed on', () => {
  assert.throws(() => rewriteMessages({ ...JSON_ANSWER, 'content-encoding': 'gzip' }, change), {
    code: 'UPSTREAM_UNREACHABLE',
  });
  const rewrite = rewriteMessages(JSON_ANSWER, change);
  const piece = Buffer.alloc(2 ** 20, ' ');
  for (let n = 0; n < 4; n++) rewrite?.piece(piece);
  assert.throws(() => rewrite?.piece(piece), { code: 'UPSTREAM_UNREACHABLE' });
});
