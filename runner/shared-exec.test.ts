import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { OutriderError } from '#core/errors';
import type { Ending, ExecEvent } from './exec.ts';
import type { Started } from './runner.ts';
import { SharedExec } from './shared-exec.ts';

const end = { kind: 'end', ending: { artefacts: [] } as unknown as Ending } as const; // nothing else of it is read
const chunk = (offset: number, text: string | Buffer): ExecEvent => ({
  kind: 'chunk',
  stream: 'stdout',
  chunk: { offset, data: Buffer.from(text) },
});

/** An exec whose events come as they are given. */
function played(keepBytes?: number) {
  const given: ExecEvent[] = [];
  let wake = (): void => {};
  let taken = 0;
  async function* events(): AsyncGenerator<ExecEvent, void, undefined> {
    for (;;) {
      const next = given[taken];
      if (next) {
        taken += 1;
        yield next;
        if (next.kind === 'end') return;
      } else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  }
  const started = { facts: { execId: 'exec-a' }, exec: {}, events: events() } as unknown as Started; // as above
  let signal: AbortSignal | undefined;
  const shared = new SharedExec((theirs) => {
    signal = theirs;
    return Promise.resolve(started);
  }, keepBytes);
  return {
    shared,
    /** How many of the exec's events were asked for. */
    taken: () => taken,
    aborted: () =>
      signal?.aborted === true && signal.reason instanceof OutriderError && signal.reason.code,
    give: (...more: ExecEvent[]): void => {
      given.push(...more);
      wake();
    },
  };
}

async function all(events: AsyncIterable<ExecEvent>): Promise<string> {
  let text = '';
  for await (const event of events)
    if (event.kind === 'chunk') text += `${event.chunk.offset}:${event.chunk.data.toString()} `;
    else text += 'end';
  return text;
}

const there = () => new AbortController().signal;

describe('an exec that calls share', () => {
  test('gives each of them everything, in whichever order they come', async () => {
    const { shared, give } = played();
    const early = shared.join(there());
    give(chunk(0, 'a'));
    await turn();
    const between = shared.join(there());
    give(chunk(1, 'b'), end);
    assert.equal(await all(early.events), '0:a 1:b end');
    assert.equal(await all(between.events), '0:a 1:b end');
    await shared.ended;
    assert.equal(await all(shared.join(there()).events), '0:ab end');
    assert.equal((await shared.join(there()).begun).exec, undefined);
  });

  test('ends when the last has left, for its reason, and not before', async () => {
    const { shared, give, aborted } = played();
    const [first, second] = [new AbortController(), new AbortController()];
    const events = [shared.join(first.signal).events, shared.join(second.signal).events];
    const waiting = events.map(all);
    first.abort(new OutriderError('CANCELLED', ''));
    await assert.rejects(waiting[0] ?? assert.fail(), { code: 'CANCELLED' });
    assert.equal(aborted(), false);
    second.abort(new OutriderError('DEADLINE_EXCEEDED', ''));
    await assert.rejects(waiting[1] ?? assert.fail(), { code: 'DEADLINE_EXCEEDED' });
    assert.equal(aborted(), 'DEADLINE_EXCEEDED');
    give(end);
    await shared.ended;
  });

  test('a call that has gone before it came counts for nothing', async () => {
    const { shared, aborted } = played();
    const gone = AbortSignal.abort(new OutriderError('CANCELLED', ''));
    const there1 = shared.join(there());
    await assert.rejects(all(shared.join(gone).events), { code: 'CANCELLED' });
    assert.equal(aborted(), false);
    await there1.events.return();
    assert.equal(aborted(), false, 'whoever has not begun to read is still there');
  });

  test('waits for the slowest, and memory is bounded', async () => {
    const { shared, give, taken } = played(1_000);
    const [fast, slow] = [shared.join(there()), shared.join(there())];
    const piece = Buffer.alloc(64 * 1_024);
    for (let at = 0; at < 100; at++) give(chunk(at * piece.length, piece));
    give(end);
    const reading = all(fast.events);
    for (let turns = 0; turns < 50; turns++) await turn();
    assert.ok(taken() < 8, `${taken()} were taken though nobody had read them`);
    const read = await all(slow.events);
    assert.equal(read, await reading);
    assert.match(read, /end$/);
    await shared.ended;
    assert.ok(shared.bytes <= 2 * 64 * 1_024 + 1_000, `${shared.bytes}`);
    const late = await all(shared.join(there()).events);
    assert.doesNotMatch(late, /^0:/, 'the offset tells what is missing');
  });

  test('says that nothing is left where it had to let go', async () => {
    const { shared, give } = played();
    const first = shared.join(there());
    give(chunk(0, 'a'), end);
    await all(first.events);
    await shared.ended;
    assert.ok(shared.bytes > 0);
    shared.shed();
    assert.equal(shared.bytes, 0);
    await assert.rejects(all(shared.join(there()).events), { code: 'EXEC_NOT_FOUND' });
  });

  test('tells every call what kept it from starting', async () => {
    const shared = new SharedExec(() => Promise.reject(new OutriderError('RUNNER_BUSY', '')));
    const calls = [shared.join(there()), shared.join(there())];
    for (const { begun } of calls) await assert.rejects(begun, { code: 'RUNNER_BUSY' });
    await assert.rejects(shared.ended, { code: 'RUNNER_BUSY' });
  });
});
