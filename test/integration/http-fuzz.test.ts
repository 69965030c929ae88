import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FuzzDoor, fuzzHttp, nodeReader } from '../fuzz/http/index.ts';

// A short run of what `npm run fuzz -- http` does at length. Needs /usr/bin/python3.

const SEED = 20_261_121;

test('E8: what llhttp, undici and Python read otherwise than the door, the door has refused', async () => {
  const { findings, seen } = await fuzzHttp(1_500, SEED);
  assert.deepEqual(findings, []);
  const times = (what: RegExp) =>
    [...seen].filter(([outcome]) => what.test(outcome)).reduce((sum, [, count]) => sum + count, 0);
  assert.ok(times(/^forwarded/) > 300, 'many cases are let through');
  assert.ok(times(/^refused/) > 300, 'and many are refused');
  assert.ok(times(/^taken as plain/) > 50, 'and llhttp does not read all of them');
});

/** What a door does to a body that it lets through, and who notices. */
const CONTROLS = [
  [
    'takes what llhttp takes without its checks',
    (body: string) => body,
    ['llhttp, strict', 'python'],
  ],
  [
    'loses a byte of a body',
    (body: string) => body.slice(1),
    ['llhttp, strict', 'llhttp, lenient', 'undici', 'python'],
  ],
] as const;
for (const [what, spoil, readers] of CONTROLS)
  test(`control: a door that ${what} is noticed by ${readers.join(' and ')}`, async () => {
    const { findings } = await fuzzHttp(300, SEED, () => lenientDoor(spoil));
    const noticed = new Set(findings.map(({ reader }) => reader));
    assert.deepEqual(
      readers.filter((reader) => noticed.has(reader)),
      readers,
    );
    assert.ok(findings.every(({ minimal }) => minimal.text.length > 0));
  });

/** Plays a door without checks. */
function lenientDoor(spoil: (body: string) => string): FuzzDoor {
  const reader = nodeReader('no checks', true);
  return {
    send: async ({ text, inside }) => {
      const reading = await reader.read(text);
      const answers = reading.requests.map(({ method, target, host, body }) => {
        const url = inside ? `http://api.allowed.test${target}` : target;
        const wire = `${method} ${url} HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
        return {
          kind: 'forwarded' as const,
          recorded: { method, url, host, body: spoil(body), wire },
        };
      });
      return { answers, closed: reading.after !== 'waiting' };
    },
    stop: async () => reader.stop(),
  };
}
