import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { describe, type TestContext, test } from 'node:test';
import { silentLogger } from '#core/log';
import { WarmPool } from './pool.ts';
import type { SandboxShape } from './role-limits.ts';
import type { Sandbox } from './sandbox.ts';

const SHAPE: SandboxShape = {
  backend: 'bubblewrap',
  image: '',
  profile: 'python',
  resources: { memoryBytes: 1, cpuMillis: 1, pids: 1, diskBytes: 1 },
};
const OTHER: SandboxShape = { ...SHAPE, resources: { ...SHAPE.resources, pids: 2 } };

interface Made {
  readonly shape: SandboxShape;
  alive: boolean;
  ended: Promise<void>;
  answered: Promise<void>;
  /** Its program has been heard of. */
  answer(): void;
  end(): Promise<void>;
}

/** A pool over sandboxes that are only counted. `create` can be told to fail, or to wait. */
function rig(t: TestContext, floor: number, ceiling = floor) {
  const made: Made[] = [];
  const awaited: boolean[] = [];
  const state = {
    failing: false,
    failingProfile: '',
    failed: 0,
    failedAt: [] as number[],
    gate: Promise.resolve(),
    warm: 0,
    started: 0,
  };
  const pool = new WarmPool({
    floor,
    ceiling,
    log: silentLogger,
    onChange: (warm) => {
      state.warm = warm;
    },
    create: async (shape, isAwaited) => {
      state.started += 1;
      await state.gate;
      awaited.push(isAwaited());
      if (state.failing || shape.profile === state.failingProfile) {
        state.failed += 1;
        state.failedAt.push(performance.now());
        throw new Error('no');
      }
      let over = (): void => {};
      const ended = new Promise<void>((resolve) => {
        over = resolve;
      });
      let answer = (): void => {};
      const answered = new Promise<void>((resolve) => {
        answer = resolve;
      });
      const sandbox: Made = {
        shape,
        alive: true,
        ended,
        answered,
        answer,
        end() {
          this.alive = false;
          over();
          return ended;
        },
      };
      made.push(sandbox);
      return sandbox as unknown as Sandbox; // only what is above is used of it
    },
  });
  t.after(() => pool.close());
  const warm = async (count: number) => {
    for (const end = Date.now() + 60_000; pool.warm !== count && Date.now() < end; )
      await new Promise((resolve) => setTimeout(resolve, 2));
    assert.equal(pool.warm, count);
  };
  return { pool, made, state, awaited, warm };
}

test('it keeps as many as it was told of each shape, and no more', async (t) => {
  const { pool, made, warm, state } = rig(t, 2);
  pool.keep([SHAPE, SHAPE, OTHER]);
  await warm(4);
  await new Promise((resolve) => setTimeout(resolve, 40));
  assert.equal(made.length, 4);
  assert.equal(state.warm, 4);
});

test('a sandbox is handed out once, of the shape that was asked for, and replaced', async (t) => {
  const { pool, warm } = rig(t, 2);
  pool.keep([SHAPE, OTHER]);
  await warm(4);
  const claims = await Promise.all([pool.claim(SHAPE), pool.claim(SHAPE), pool.claim(OTHER)]);
  assert.equal(new Set(claims.map(({ sandbox }) => sandbox)).size, 3);
  assert.deepEqual(
    claims.map(({ sandbox, warm: was }) => [(sandbox as unknown as Made).shape, was]),
    [
      [SHAPE, true],
      [SHAPE, true],
      [OTHER, true],
    ],
  );
  await warm(4);
});

test('more than are warm are made for the asking, as are shapes that nobody keeps', async (t) => {
  const { pool, warm } = rig(t, 1);
  pool.keep([SHAPE]);
  await warm(1);
  assert.deepEqual(
    (await Promise.all([pool.claim(SHAPE), pool.claim(SHAPE), pool.claim(OTHER)])).map(
      (claim) => claim.warm,
    ),
    [true, false, false],
  );
  await warm(1);
});

describe('what replaces a claimed sandbox is not begun', () => {
  /** A pool that has handed out the only one that it keeps. */
  const claimed = async (t: TestContext) => {
    const all = rig(t, 1);
    all.pool.keep([SHAPE]);
    await all.warm(1);
    const { sandbox } = await all.pool.claim(SHAPE);
    await new Promise((resolve) => setTimeout(resolve, 60));
    assert.equal(all.state.started, 1, 'nothing was heard of its program yet');
    return { ...all, claimed: sandbox as unknown as Made }; // the rig made it
  };

  test('before the first byte of its program has gone out', async (t) => {
    const { claimed: one, state, warm } = await claimed(t);
    one.answer();
    await warm(1);
    assert.equal(state.started, 2);
  });

  test('before it has ended, where its program writes nothing', async (t) => {
    const { claimed: one, warm } = await claimed(t);
    void one.end();
    await warm(1);
  });

  test('for longer than a while, where its program does neither', async (t) => {
    const { warm } = await claimed(t);
    await warm(1);
  });

  test('by another one, whose program was heard of before', async (t) => {
    const { pool, made, state, warm } = rig(t, 2);
    pool.keep([SHAPE]);
    await warm(2);
    await Promise.all([pool.claim(SHAPE), pool.claim(SHAPE)]);
    made[0]?.answer();
    await warm(1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(state.started, 3);
    made[1]?.answer();
    await warm(2);
  });
});

test('what is made is told whether somebody waits for it: others need not make haste', async (t) => {
  const { pool, awaited, warm } = rig(t, 1);
  pool.keep([SHAPE]);
  await warm(1);
  await pool.claim(OTHER);
  assert.deepEqual(awaited, [false, true]);
});

test('a program that is not heard of keeps nobody waiting', async (t) => {
  const { pool, warm } = rig(t, 1);
  pool.keep([SHAPE]);
  await warm(1);
  await pool.claim(SHAPE);
  t.mock.timers.enable({ apis: ['setTimeout'] }); // the quarter of a second that a replacement waits never ends
  const { warm: was } = await pool.claim(SHAPE);
  assert.equal(was, false);
});

test('one that died is not handed out, and is replaced, however the death was noticed', async (t) => {
  const { pool, made, warm } = rig(t, 1);
  pool.keep([SHAPE]);
  await warm(1);
  void made[0]?.end();
  await warm(0);
  await warm(1);
  const second = made[1];
  assert.ok(second);
  second.alive = false; // its end is not known yet
  const claim = await pool.claim(SHAPE);
  assert.equal(claim.warm, false);
  await warm(1);
});

test('a failure is tried again after a growing while, and a success forgets it', async (t) => {
  const { pool, state, warm } = rig(t, 1);
  state.failing = true;
  pool.keep([SHAPE]);
  for (const end = Date.now() + 60_000; state.failed < 3 && Date.now() < end; )
    await new Promise((resolve) => setTimeout(resolve, 5));
  const [first = 0, second = 0, third = 0] = state.failedAt;
  assert.ok(second - first >= 195, `the second try after ${second - first} ms`);
  assert.ok(third - second >= 395, `the third after ${third - second} ms more`);
  await assert.rejects(pool.claim(SHAPE), { code: 'INTERNAL' });
  state.failing = false;
  await warm(1);
});

test('what keeps one profile from being made is told of that one; all are a problem of the whole', async (t) => {
  const { pool, state, warm } = rig(t, 1);
  const node = { ...SHAPE, profile: 'node' };
  state.failingProfile = 'node';
  pool.keep([SHAPE, node]);
  await warm(1);
  for (let left = 5_000; state.failed === 0 && left > 0; left--)
    await new Promise((resolve) => setTimeout(resolve, 2));
  assert.deepEqual([pool.problems, pool.problem], [{ node: 'internal error' }, undefined]);
  pool.keep([node]);
  assert.equal(pool.problem, 'internal error');
  state.failingProfile = '';
  await warm(1);
  assert.deepEqual([pool.problems, pool.problem], [{}, undefined]);
});

test('closing ends what waits and what is being made, and nothing is made after it', async (t) => {
  const { pool, made, state, warm } = rig(t, 2);
  pool.keep([SHAPE]);
  await warm(2);
  let open = (): void => {};
  state.gate = new Promise((resolve) => {
    open = resolve;
  });
  await pool.claim(SHAPE);
  made[0]?.answer();
  await new Promise((resolve) => setTimeout(resolve, 40));
  let closed = false;
  const closing = pool.close().then(() => {
    closed = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(closed, false, 'one is still being made');
  open();
  await closing;
  assert.deepEqual(
    made.map(({ alive }) => alive),
    [true, false, false],
  );
  await new Promise((resolve) => setTimeout(resolve, 40));
  assert.equal(made.length, 3);
});

test('who waits gets what is in the making, and first of all', async (t) => {
  const { pool, made, state, warm } = rig(t, 1);
  let open = (): void => {};
  state.gate = new Promise((resolve) => {
    open = resolve;
  });
  pool.keep([OTHER]);
  const claims = [pool.claim(OTHER), pool.claim(OTHER)];
  open();
  const got = await Promise.all(claims);
  assert.deepEqual(
    got.map(({ warm: was }) => was),
    [false, false],
  );
  assert.deepEqual(
    got.map(({ sandbox }) => sandbox),
    made.slice(0, 2),
    'the first that was made went to the first who asked',
  );
  await warm(1);
});

test('no more are made at one time than the machine has use for', async (t) => {
  const { pool, made, state } = rig(t, 0);
  let open = (): void => {};
  state.gate = new Promise((resolve) => {
    open = resolve;
  });
  const claims = Array.from({ length: 50 }, () => pool.claim(SHAPE));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(state.started, 2 * availableParallelism());
  open();
  await Promise.all(claims);
  assert.equal(made.length, 50);
});

test('a rush fills the stock up to the ceiling; a shape that no role names is made for the asking and never kept', async (t) => {
  const { pool, warm } = rig(t, 1, 3);
  pool.keep([SHAPE]);
  await warm(1);
  await Promise.all([1, 2, 3, 4, 5].map(() => pool.claim(SHAPE)));
  await warm(3);
  assert.equal(
    pool.warmOf(({ resources }) => resources.pids === 2),
    0,
  );
  await Promise.all([pool.claim(OTHER), pool.claim(OTHER)]);
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(pool.warm, 3);
});

test('what no role names any more is ended', async (t) => {
  const { pool, made, warm } = rig(t, 2);
  pool.keep([SHAPE, OTHER]);
  await warm(4);
  pool.keep([OTHER]);
  await warm(2);
  assert.deepEqual(
    made.filter(({ alive }) => alive).map(({ shape }) => shape),
    [OTHER, OTHER],
  );
});

test('who waits while the pool closes is told', async (t) => {
  const { pool, state } = rig(t, 0);
  let open = (): void => {};
  state.gate = new Promise((resolve) => {
    open = resolve;
  });
  const claim = pool.claim(SHAPE);
  const closing = pool.close();
  await assert.rejects(claim, { code: 'DRAINING' });
  open();
  await closing;
  await assert.rejects(pool.claim(SHAPE), { code: 'DRAINING' });
});
