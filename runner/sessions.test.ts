import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { Role } from '#policies';
import type { Exec } from './exec.ts';
import { lifeFor, roleLimits } from './role-limits.ts';
import type { Sandbox } from './sandbox.ts';
import { type Kept, Sessions } from './sessions.ts';

/** Stands for a sandbox where only its id, its end and its being asked to end matter. */
function sandbox(id: string) {
  let over = (): void => {};
  const ended = new Promise<void>((resolve) => {
    over = resolve;
  });
  return {
    id,
    ended,
    asked: 0,
    dies: () => over(),
    end() {
      this.asked += 1;
      over();
      return ended;
    },
  };
}

function rig(t: TestContext) {
  const clock = { now: 1_000 };
  const ended: string[] = [];
  const sessions = new Sessions(
    (kept, reason) => void ended.push(`${kept.sandbox.id}: ${reason}`),
    () => clock.now,
    1_000_000,
  );
  t.after(() => sessions.close());
  const add = (id: string, over: Partial<Omit<Kept, 'sandbox'>> = {}) => {
    const box = sandbox(id);
    const kept: Kept = {
      owner: 'alice',
      name: '',
      role: 'analyst',
      policyDigest: '',
      createdAt: clock.now,
      expiresAt: clock.now + 1_000,
      idleMs: 100,
      lastUsedAt: clock.now,
      running: undefined,
      busy: false,
      ...over,
      sandbox: box as unknown as Sandbox, // only what is above is used of it
    };
    sessions.add(kept);
    return { kept, box };
  };
  return { clock, ended, sessions, add };
}

const kills: unknown[][] = [];
const running = () => {
  kills.length = 0;
  return { kill: (...args: unknown[]) => void kills.push(args) } as unknown as Exec;
};

describe('C4: a kept sandbox', () => {
  test('ends when it was idle for long enough, not before', async (t) => {
    const { clock, ended, sessions, add } = rig(t);
    const { box } = add('a');
    clock.now += 99;
    sessions.sweep();
    assert.deepEqual(ended, []);
    clock.now += 1;
    sessions.sweep();
    assert.deepEqual(ended, ['a: idle']);
    assert.equal(box.asked, 1);
  });

  test('is never swept for idleness while a program runs in it, but for its age it is', async (t) => {
    const { clock, ended, sessions, add } = rig(t);
    add('a', { busy: true, running: running() });
    clock.now += 999;
    sessions.sweep();
    assert.deepEqual(ended, []);
    clock.now += 1;
    sessions.sweep();
    assert.deepEqual(ended, ['a: expired']);
    assert.deepEqual(kills, [['timeout', 'the session reached the end of its life']]);
  });

  test('cannot be found once it has expired, also before anybody has swept', (t) => {
    const { clock, sessions, add } = rig(t);
    add('a', { name: 'n', busy: true });
    assert.equal(sessions.byId('alice', 'a').name, 'n');
    assert.ok(sessions.byName('alice', 'n'));
    clock.now += 1_000;
    assert.throws(() => sessions.byId('alice', 'a'), { code: 'SANDBOX_NOT_FOUND' });
    assert.equal(sessions.byName('alice', 'n'), undefined);
    assert.equal(sessions.count('alice', 'analyst'), 0);
  });

  test("is nobody's but its owner's, by id, by name and in the list", (t) => {
    const { sessions, add } = rig(t);
    add('a', { name: 'n' });
    add('b', { name: 'n', owner: 'bob' });
    assert.equal(sessions.byName('alice', 'n')?.sandbox.id, 'a');
    assert.equal(sessions.byName('bob', 'n')?.sandbox.id, 'b');
    assert.throws(() => sessions.byId('alice', 'b'), { code: 'SANDBOX_NOT_FOUND' });
    assert.throws(() => sessions.byId('alice', 'none'), { code: 'SANDBOX_NOT_FOUND' });
    assert.deepEqual(
      sessions.list('alice').map((kept) => kept.sandbox.id),
      ['a'],
    );
    assert.deepEqual(sessions.list('carol'), []);
  });

  test('counts under its role alone', (t) => {
    const { sessions, add } = rig(t);
    add('a');
    add('b');
    add('c', { role: 'other' });
    assert.equal(sessions.count('alice', 'analyst'), 2);
  });

  test('that dies by itself is gone, and told so once', async (t) => {
    const { ended, sessions, add } = rig(t);
    const { kept, box } = add('a');
    box.dies();
    await box.ended;
    await Promise.resolve();
    assert.deepEqual(ended, ['a: lost']);
    assert.throws(() => sessions.byId('alice', 'a'));
    await sessions.end(kept, 'deleted');
    assert.deepEqual(ended, ['a: lost']);
  });

  test('that is deleted ends what runs in it, and deleting twice is deleting once', async (t) => {
    const { ended, sessions, add } = rig(t);
    const { kept } = add('a', { busy: true, running: running() });
    await Promise.all([sessions.end(kept, 'deleted'), sessions.end(kept, 'deleted')]);
    assert.deepEqual(ended, ['a: deleted']);
    assert.deepEqual(kills[0], ['disconnect', 'the sandbox was deleted']);
  });
});

describe('C4: a kept sandbox of a role that says nothing of it', () => {
  const role: Role = {
    apiVersion: 'outrider/v1',
    kind: 'Role',
    metadata: { name: 'analyst' },
    spec: { members: [{ issuer: 'i' }], sandbox: {} },
  };
  const { idleMs, lifeMs } = lifeFor(roleLimits(role), {});
  const MINUTE = 60_000;
  const keep = (t: TestContext) => {
    const { clock, ended, sessions, add } = rig(t);
    const from = clock.now;
    const { kept } = add('a', { idleMs, expiresAt: from + lifeMs });
    /** So long after it was made. */
    const at = (minutes: number) => {
      clock.now = from + minutes * MINUTE;
      sessions.sweep();
      return ended.join();
    };
    return { kept, clock, at };
  };

  test('ends after 30 minutes without a program, not a moment before', (t) => {
    const { at } = keep(t);
    assert.equal(at(30 - 1 / MINUTE), '');
    assert.equal(at(30), 'a: idle');
  });

  test('ends after 4 hours however often it is used, and not for idleness while a program runs', (t) => {
    const { kept, clock, at } = keep(t);
    for (let minutes = 20; minutes <= 120; minutes += 20) {
      assert.equal(at(minutes), '');
      kept.lastUsedAt = clock.now;
    }
    kept.busy = true;
    assert.equal(at(240 - 1 / MINUTE), '', 'a program ran for two hours');
    assert.equal(at(240), 'a: expired');
  });
});

test('closing ends every sandbox of everybody', async (t) => {
  const { ended, sessions, add } = rig(t);
  add('a');
  add('b', { owner: 'bob', busy: true });
  await sessions.close();
  assert.deepEqual(ended.toSorted(), ['a: runner', 'b: runner']);
});

test('it sweeps by itself', async (t) => {
  const ended: string[] = [];
  const clock = { now: 0 };
  const sessions = new Sessions(
    (_, reason) => void ended.push(reason),
    () => clock.now,
    5,
  );
  t.after(() => sessions.close());
  sessions.add({
    ...rig(t).add('a').kept,
    sandbox: sandbox('z') as unknown as Sandbox, // only its id and its end are used
    expiresAt: 1,
  });
  clock.now = 1;
  for (let tries = 0; ended.length === 0 && tries < 200; tries++)
    await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(ended, ['expired']);
});
