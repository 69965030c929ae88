import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { parseAddress } from '#core/address';
import { type ErrorCode, OutriderError } from '#core/errors';
import { silentLogger } from '#core/log';
import { type Datasource, RunRequest, RunResponse, Sandbox } from '#proto';
import { rendezvous } from './rendezvous.ts';
import type { RunContext, RunnerClient } from './runner-client.ts';
import { Runners } from './runners.ts';

/** One runner that is played: what it answers is what its fields say. */
class Played implements RunnerClient {
  readonly id: string;
  running = 0;
  capacity = 10;
  draining = false;
  unready = false;
  silent = false;
  /** What a run is refused with. */
  refuses: ErrorCode | undefined;
  /** What a place for another's run is refused with. */
  holdRefuses: ErrorCode | undefined;
  runs = 0;
  held = 0;
  closed = false;
  #gate: Promise<void> | undefined;

  constructor(id: string) {
    this.id = id;
  }

  /** Runs go on until the function returned is called. */
  block(): () => void {
    let open = (): void => {};
    this.#gate = new Promise((resolve) => {
      open = resolve;
    });
    return open;
  }

  async run(): Promise<RunResponse> {
    if (this.silent) throw new OutriderError('UPSTREAM_UNREACHABLE', '');
    if (this.refuses) throw new OutriderError(this.refuses, '');
    this.runs += 1;
    await this.#gate;
    return RunResponse.fromPartial({ started: { runnerId: this.id } });
  }

  async state() {
    if (this.silent) throw new OutriderError('UPSTREAM_UNREACHABLE', '');
    const { id: runnerId, running, capacity, draining, unready } = this;
    return { runnerId, running, capacity, draining, unready };
  }

  async hold(): Promise<() => void> {
    if (this.holdRefuses) throw new OutriderError(this.holdRefuses, '');
    this.held += 1;
    return () => {
      this.held -= 1;
    };
  }

  /** Names of the sessions that it keeps. */
  kept: string[] = [];

  async sessions(): Promise<Sandbox[]> {
    return this.kept.map((name) => Sandbox.fromPartial({ name }));
  }

  async endSession(name: string): Promise<void> {
    this.kept = this.kept.filter((one) => one !== name);
  }

  /** Keys that it was to cancel. */
  cancelled: string[] = [];

  async cancel(key: string): Promise<void> {
    this.cancelled.push(key);
  }

  /** The exec whose artefacts it has. */
  has = '';

  async readArtefact(execId: string, path: string): Promise<Buffer> {
    if (execId !== this.has) throw new OutriderError('EXEC_NOT_FOUND', '');
    if (path !== 'f') throw new OutriderError('FILE_NOT_FOUND', '');
    return Buffer.from(`of ${this.id}`);
  }

  /** What its lists are, one after the other. */
  datasources: readonly (readonly Datasource[])[] = [];

  async *watchDatasources() {
    if (this.silent) throw new OutriderError('UPSTREAM_UNREACHABLE', '');
    yield* this.datasources;
  }

  async problem(): Promise<undefined> {
    return undefined;
  }

  close(): void {
    this.closed = true;
  }
}

const ADDRESSES = ['unix:/a', 'unix:/b', 'unix:/c'].map(parseAddress);

async function rig(t: TestContext, ids: readonly string[] = ['a', 'b', 'c']) {
  const clock = { now: 0 };
  const played = ids.map((id) => new Played(id));
  let made = 0;
  const runners = new Runners(ADDRESSES.slice(0, ids.length), silentLogger, {
    connect: () => played[made++] ?? assert.fail(),
    now: () => clock.now,
    askEveryMs: 2,
  });
  t.after(() => runners.close());
  await runners.problem();
  const context = (owner: string): RunContext => ({
    assertion: '',
    owner,
    requestId: 'r',
    deadlineMs: 1_000,
    signal: new AbortController().signal,
  });
  const run = async (owner = 'alice', over: object = {}) => {
    const { started } = await runners.run(RunRequest.fromPartial({ spec: over }), context(owner));
    return started?.runnerId ?? '';
  };
  /** They have been asked again since. */
  const asked = () => new Promise((resolve) => setTimeout(resolve, 20));
  const byId = (id: string) => played.find((one) => one.id === id) ?? assert.fail(id);
  const home = (key: string) => byId(rendezvous(key, ids)[0] ?? '');
  return { clock, played, runners, run, asked, byId, home, context };
}

const session = (name: string) => ({ target: { $case: 'session', value: { name } } });
const sessionKey = (owner: string, name: string) => `${owner}\0session\0${name}`;

describe('D6: fresh programs', () => {
  test('are spread over the runners', async (t) => {
    const { played, run } = await rig(t);
    const open = played.map((one) => one.block());
    const all = Array.from({ length: 30 }, () => run());
    await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(
      played.map(({ runs }) => runs),
      [10, 10, 10],
    );
    for (const go of open) go();
    await Promise.all(all);
  });

  test('go to where the smallest share of the places is taken', async (t) => {
    const { played, run, asked } = await rig(t);
    const [a, b, c] = played;
    Object.assign(a ?? {}, { running: 5, capacity: 10 });
    Object.assign(b ?? {}, { running: 10, capacity: 100 });
    Object.assign(c ?? {}, { running: 3, capacity: 10 });
    await asked();
    assert.equal(await run(), 'b');
  });

  for (const code of ['RUNNER_BUSY', 'DRAINING', 'UPSTREAM_UNREACHABLE'] as const)
    test(`go to the next where one says ${code}`, async (t) => {
      const { home, run } = await rig(t);
      home('alice').refuses = code;
      assert.notEqual(await run(), home('alice').id);
      assert.equal(home('alice').runs, 0);
    });

  for (const code of ['QUOTA_EXCEEDED', 'UPSTREAM_LOST', 'ROLE_DENIED', 'INTERNAL'] as const)
    test(`are tried nowhere else where one says ${code}`, async (t) => {
      const { home, played, run } = await rig(t);
      home('alice').refuses = code;
      await assert.rejects(run(), { code });
      assert.deepEqual(
        played.map(({ runs }) => runs),
        [0, 0, 0],
      );
    });

  test('are refused with what the last of them said where none has a place', async (t) => {
    const { played, run } = await rig(t);
    for (const one of played) one.refuses = 'RUNNER_BUSY';
    await assert.rejects(run(), { code: 'RUNNER_BUSY' });
  });

  for (const state of ['draining', 'silent'] as const)
    test(`never go to one that is ${state}, and do again when it is not`, async (t) => {
      const { played, run, asked } = await rig(t);
      const [a] = played;
      assert.ok(a);
      a[state] = true;
      await asked();
      for (let at = 0; at < 10; at++) assert.notEqual(await run(`owner ${at}`), 'a');
      a[state] = false;
      await asked();
      const ran = await Promise.all(Array.from({ length: 30 }, (_, at) => run(`owner ${at}`)));
      assert.ok(ran.includes('a'));
    });
});

describe('D6: what belongs to one runner', () => {
  test("a session's programs all go to the same, and another owner's session of the name may go elsewhere", async (t) => {
    const { run, home } = await rig(t);
    const places = new Set<string>();
    for (let at = 0; at < 20; at++) {
      const owner = `owner ${at}`;
      const first = await run(owner, session('s'));
      assert.equal(first, home(sessionKey(owner, 's')).id);
      assert.equal(await run(owner, session('s')), first);
      places.add(first);
    }
    assert.equal(places.size, 3);
  });

  test('is an error while its runner is silent, and moves when that is lost', async (t) => {
    const { clock, run, home, asked } = await rig(t);
    const lost = home(sessionKey('alice', 's'));
    lost.silent = true;
    await asked();
    clock.now = 9_999;
    await assert.rejects(run('alice', session('s')), { code: 'UPSTREAM_UNREACHABLE' });
    clock.now = 10_000;
    assert.notEqual(await run('alice', session('s')), lost.id);
    lost.silent = false;
    await asked();
    assert.equal(await run('alice', session('s')), lost.id);
  });

  test('moves at once from one that is stopping', async (t) => {
    const { run, home, asked } = await rig(t);
    const stopping = home(sessionKey('alice', 's'));
    stopping.draining = true;
    await asked();
    assert.notEqual(await run('alice', session('s')), stopping.id);
  });

  test('is tried nowhere else where its runner is busy', async (t) => {
    const { run, home } = await rig(t);
    home(sessionKey('alice', 's')).refuses = 'RUNNER_BUSY';
    await assert.rejects(run('alice', session('s')), { code: 'RUNNER_BUSY' });
  });

  test('is what has an idempotency key, too', async (t) => {
    const { run, home } = await rig(t);
    for (let at = 0; at < 10; at++)
      assert.equal(await run('alice', { idempotencyKey: `k${at}` }), home(`alice\0key\0k${at}`).id);
  });
});

describe("C13: an owner's execs are counted at one runner", () => {
  test('where another runs them they hold a place there, until they end', async (t) => {
    const { home, played, run, asked } = await rig(t);
    const counts = home('alice');
    counts.running = 9;
    await asked();
    const others = played.filter((one) => one !== counts);
    const open = others.map((one) => one.block());
    const all = [run(), run(), run()];
    await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual([counts.held, counts.runs], [3, 0]);
    assert.deepEqual(
      others.map(({ held }) => held),
      [0, 0],
    );
    for (const go of open) go();
    await Promise.all(all);
    assert.equal(counts.held, 0);
  });

  test('and where it counts too many nothing is begun anywhere', async (t) => {
    const { home, played, run, asked } = await rig(t);
    const counts = home('alice');
    Object.assign(counts, { running: 9, holdRefuses: 'QUOTA_EXCEEDED' });
    await asked();
    await assert.rejects(run(), { code: 'QUOTA_EXCEEDED' });
    assert.ok(played.every(({ runs }) => runs === 0));
    assert.ok(await run('somebody else'), 'others have their own quota');
  });

  test('which is the next one when it is lost', async (t) => {
    const { home, played, run, asked } = await rig(t);
    const counts = home('alice');
    counts.holdRefuses = 'UPSTREAM_UNREACHABLE';
    counts.running = 9;
    await asked();
    assert.notEqual(await run(), counts.id);
    assert.ok(played.every(({ held }) => held === 0));
  });
});

test('runners of the same name are told apart', async (t) => {
  const { played, run } = await rig(t, ['same', 'same', 'same']);
  for (let at = 0; at < 30; at++) await run(`owner ${at}`, session('s'));
  assert.ok(played.every(({ runs }) => runs > 0));
});

test('there is a problem only where none of them answers, or none of those is ready', async (t) => {
  const { played, runners, asked } = await rig(t);
  for (const one of played.slice(1)) one.silent = true;
  await asked();
  assert.equal(await runners.problem(), undefined);
  for (const one of played) one.unready = true;
  await asked();
  assert.match((await runners.problem()) ?? '', /no runner is ready/);
  for (const one of played) one.silent = true;
  await asked();
  assert.equal(await runners.problem(), 'no runner answers');
  runners.close();
  assert.ok(played.every(({ closed }) => closed));
});

test('A11: a cancellation goes to every runner that answers, since any may run the call', async (t) => {
  const { played, byId, runners, context, asked } = await rig(t);
  byId('b').silent = true;
  await asked();
  await runners.cancel('k', context('alice'));
  assert.deepEqual(
    played.map(({ cancelled }) => cancelled),
    [['k'], [], ['k']],
  );
});

describe('C6: a file that a program left', () => {
  test('is read from whichever runner ran it', async (t) => {
    const { byId, runners, context } = await rig(t);
    byId('b').has = 'exec-1';
    const read = (execId: string, path: string) =>
      runners.readArtefact(execId, path, context('alice'));
    assert.equal((await read('exec-1', 'f')).toString(), 'of b');
    await assert.rejects(read('exec-1', 'g'), { code: 'FILE_NOT_FOUND' });
    await assert.rejects(read('exec-2', 'f'), { code: 'EXEC_NOT_FOUND' });
  });

  test('is not said to be gone where the runner that may have it does not answer', async (t) => {
    const { byId, runners, context, asked } = await rig(t);
    byId('b').has = 'exec-1';
    byId('b').silent = true;
    await asked();
    await assert.rejects(runners.readArtefact('exec-1', 'f', context('alice')), {
      code: 'UPSTREAM_UNREACHABLE',
    });
  });
});

describe('C4: sessions', () => {
  test('are listed over every runner that answers, and ended wherever they are', async (t) => {
    const { byId, runners, context, asked } = await rig(t);
    byId('a').kept = ['one'];
    byId('b').kept = ['two', 'three'];
    byId('c').kept = ['lost'];
    byId('c').silent = true;
    await asked();
    const names = async () => (await runners.sessions(context('alice'))).map(({ name }) => name);
    assert.deepEqual((await names()).toSorted(), ['one', 'three', 'two']);
    await runners.endSession('two', context('alice'));
    await runners.endSession('nobody', context('alice'));
    assert.deepEqual((await names()).toSorted(), ['one', 'three']);
  });

  test('where no runner answers, that is an error and not an empty list', async (t) => {
    const { played, runners, context, asked } = await rig(t);
    for (const one of played) one.silent = true;
    await asked();
    await assert.rejects(runners.sessions(context('alice')), { code: 'UPSTREAM_UNREACHABLE' });
  });
});
