import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AuditChain } from '#core/audit';
import { silentLogger } from '#core/log';
import { AuditGap, openAuditSink } from '../audit-sink.ts';
import { Channel } from './channel.ts';
import type { DeliveryAnswer } from './doors.ts';
import { createRemoteSink, deliverTo, flushSink } from './remote-sink.ts';

interface Adder {
  add(numbers: readonly number[]): number;
  later(text: string): Promise<string>;
  fail(value: null): never;
  note(text: string): void;
}

interface Silent {
  nothing(value: null): null;
}

/** Two ends with nothing but JSON between them, and what went over it. */
function ends(noted: string[]) {
  const pieces: string[] = [];
  const taking: ((messages: unknown) => void)[] = [];
  const wire = (from: number) => ({
    send: (messages: readonly object[]) => {
      pieces.push(JSON.stringify(messages));
      taking[1 - from]?.(JSON.parse(pieces.at(-1) ?? ''));
    },
    onMessages: (take: (messages: unknown) => void) => void (taking[from] = take),
  });
  const door: Adder = {
    add: (numbers) => numbers.reduce((sum, one) => sum + one, 0),
    later: async (text) => text.toUpperCase(),
    fail() {
      throw new Error('no');
    },
    note: (text) => void noted.push(text),
  };
  const answers = new Channel<Adder, Silent>(wire(1), door);
  const asker = new Channel<Silent, Adder>(wire(0), { nothing: () => null });
  return { answers, asker, pieces };
}

test('each question gets its own answer, and what one turn asks goes in one piece', async () => {
  const noted: string[] = [];
  const { asker, pieces } = ends(noted);
  asker.tell('note', 'hello');
  const answers = await Promise.all([
    asker.ask('add', [1, 2]),
    asker.ask('later', 'x'),
    asker.ask('add', [3]),
  ]);
  assert.deepEqual(answers, [3, 'X', 3]);
  assert.deepEqual(noted, ['hello']);
  assert.equal(pieces.filter((piece) => piece.includes('"name"')).length, 1);
});

test('what fails there fails here, and nobody waits for a process that is gone', async () => {
  const { asker } = ends([]);
  await assert.rejects(asker.ask('fail', null), /no/);
  const asked = asker.ask('add', [1]);
  asker.close();
  await assert.rejects(asked, /gone/);
  await assert.rejects(asker.ask('add', [1]), /gone/);
});

/** The sink of a primary, as its workers see it. */
function sinks(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'o-workers-'));
  const sink = openAuditSink(directory);
  t.after(() => {
    sink.close();
    rmSync(directory, { recursive: true });
  });
  const remote = () =>
    createRemoteSink({
      deliver: async (delivery): Promise<DeliveryAnswer> =>
        JSON.parse(JSON.stringify(deliverTo(sink, delivery))),
      flush: () => sink.flush(),
    });
  const stored = () => readFileSync(join(directory, 'sidecar.jsonl'), 'utf8');
  return { workers: [remote(), remote()] as const, stored };
}

test("a sidecar's chain goes on at whichever worker its next delivery arrives, and a gap is told at each", async (t) => {
  const { workers, stored } = sinks(t);
  const lines: string[] = [];
  const chain = new AuditChain(
    'sidecar',
    { append: (line) => void lines.push(line) },
    { writer: 'sc-sbx-1' },
  );
  for (let at = 0; at < 4; at++) chain.append({ event: 'request' });
  const piece = (from: number, to: number): string => `${lines.slice(from, to).join('\n')}\n`;
  const [one, two] = workers;
  assert.equal((await one.take('sbx-1', piece(0, 2), 'me')).head.seq, 1);
  await assert.rejects(
    async () => two.take('sbx-1', piece(3, 5), 'me'),
    (error) => error instanceof AuditGap && error.acknowledged?.seq === 1,
  );
  assert.equal((await two.take('sbx-1', piece(2, 5), 'me')).head.seq, 4);
  await assert.rejects(async () => one.take('sbx-1', piece(4, 5), 'another'), {
    code: 'EGRESS_DENIED',
  });
  one.flush();
  for (const line of lines) assert.ok(stored().includes(line));
});

test('a disk that takes nothing ends no primary: what cannot be flushed is said, and the next flush comes', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'o-workers-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const sink = openAuditSink(directory);
  const said: string[] = [];
  const log = { ...silentLogger, error: (message: string) => void said.push(message) };
  flushSink(sink, log);
  assert.deepEqual(said, []);
  sink.close();
  assert.throws(() => sink.flush(), 'it fails from now on');
  flushSink(sink, log);
  assert.equal(said.length, 1);
});
