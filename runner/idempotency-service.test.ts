import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ExecSpec, KilledBy, SandboxState } from '#proto';
import { call, codeOf, python } from './test-rig.ts';
import { endOf, FOREVER, MIB, serviceRig, startOf, textOf, until } from './testing.ts';

const service = serviceRig();
const { run, open, idle } = service;

/** Every run of it writes its own number. */
const once = (key: string, over: Partial<ExecSpec> = {}): ExecSpec =>
  python('import random, time; time.sleep(0.2); print(random.random())', {
    idempotencyKey: key,
    ...over,
  });

describe('D5: the same key is one run', () => {
  test('at the same time and afterwards: every Run has the same answer', async () => {
    const together = await Promise.all([run(once('a')), run(once('a')), run(once('a'))]);
    const later = await run(once('a'));
    const [first] = together;
    for (const answer of [...together, later]) {
      assert.equal(answer.started?.execId, first.started?.execId);
      assert.deepEqual(answer.stdout, first.stdout);
      assert.deepEqual(answer.end, first.end);
    }
    const execs = service.rig.audit().filter(({ execId }) => execId === first.started?.execId);
    assert.equal(execs.length, 1);
    const another = await run(once('another'));
    assert.notDeepEqual(another.stdout, first.stdout);
  });

  test('a whole answer is kept: both streams to their limits, and artefacts', async () => {
    const spec = python(
      `import sys
sys.stdout.write("x" * ${2 * MIB}); sys.stderr.write("y" * ${2 * MIB})
open("/output/f", "w").write("kept")`,
      { idempotencyKey: 'large' },
    );
    const [first, second] = [await run(spec), await run(spec)];
    assert.ok(first.stdout.length > MIB);
    assert.ok(second.stdout.equals(first.stdout) && second.stderr.equals(first.stderr));
    assert.equal(second.end?.artefacts[0]?.content.toString(), 'kept');
  });

  test('a second Exec gets the output so far and all that follows; the end comes to both', async () => {
    const spec = python(
      'import sys\nprint("one", flush=True)\nsys.stdin.readline()\nprint("two", flush=True)',
      { idempotencyKey: 'stream', openStdin: true },
    );
    const first = open(spec);
    const started = await startOf(first);
    assert.equal((await first.next())?.$case, 'stdout');
    const second = open(spec);
    assert.equal((await startOf(second)).execId, started.execId);
    const soFar = await second.next();
    assert.ok(soFar?.$case === 'stdout');
    assert.deepEqual([soFar.value.data.toString(), soFar.value.offset], ['one\n', 0n]);
    second.send({ $case: 'stdin', value: Buffer.from('again\n') }); // sent again, and read once
    second.halfClose();
    first.send({ $case: 'stdin', value: Buffer.from('go\n') });
    const [rest, same] = await Promise.all([first.rest(), second.rest()]);
    for (const responses of [rest, same]) {
      assert.equal(textOf(responses, 'stdout'), 'two\n');
      assert.equal(endOf(responses)?.killedBy, KilledBy.EXIT);
    }
    const late = await open(spec).rest();
    assert.equal(textOf(late, 'stdout'), 'one\ntwo\n');
    assert.deepEqual(endOf(late), endOf(rest));
  });

  test('the first call that leaves does not end it for the others; the last that leaves does', async () => {
    const spec = python(FOREVER, { idempotencyKey: 'leave' });
    const [first, second] = [open(spec), open(spec)];
    const { execId, sandboxId, attestation } = await startOf(first);
    await startOf(second);
    first.cancel();
    await assert.rejects(first.rest());
    assert.equal((await second.next())?.$case, 'stdout');
    const { end } = await call(service.rig.execs, 'getExec', { execId }, service.alice);
    assert.equal(end, undefined, 'it goes on');
    second.cancel();
    await assert.rejects(second.rest());
    await until(() => service.rig.isGone(sandboxId, attestation?.hostUid ?? 0));
    const again = await open(spec).rest();
    assert.equal(endOf(again)?.killedBy, KilledBy.DISCONNECT, 'it is not begun again');
  });

  test('where the call that feeds stdin leaves before its end, the run ends for all', async () => {
    const spec = python('import sys; print(len(sys.stdin.read()))', {
      idempotencyKey: 'fed',
      openStdin: true,
    });
    const [first, second] = [open(spec), open(spec)];
    await startOf(first);
    await startOf(second);
    first.cancel();
    const rest = await second.rest();
    assert.equal(endOf(rest)?.killedBy, KilledBy.DISCONNECT);
    assert.equal(textOf(rest, 'stdout'), '', 'half of its input does not pass for all of it');
    await assert.rejects(first.rest());
  });

  const others: readonly (readonly [string, () => Promise<unknown>])[] = [
    ['another program', () => run(python('print(1)', { idempotencyKey: 'mine' }))],
    ['another environment', () => run(once('mine', { env: { A: '1' } }))],
    ['the other method', () => open(once('mine')).rest()],
  ];
  for (const [what, attempt] of others)
    test(`${what} under a key that was used is refused`, async () => {
      assert.equal(await codeOf(run(once('mine'))), 'none');
      assert.equal(await codeOf(attempt()), 'INVALID_REQUEST');
    });

  test('the order of a map is no difference', async () => {
    const spec = (env: Record<string, string>) => once('map', { env });
    const first = await run(spec({ A: '1', B: '2' }));
    const second = await run(spec({ B: '2', A: '1' }));
    assert.deepEqual(second.stdout, first.stdout);
  });

  test("a key is its caller's own", async () => {
    const mine = await run(once('shared'));
    const theirs = await run(once('shared'), service.bob);
    assert.notDeepEqual(theirs.stdout, mine.stdout);
    assert.notEqual(theirs.started?.execId, mine.started?.execId);
  });

  test('what was refused is told to all who wait, and may be tried again', async () => {
    await idle();
    const held = [1, 2, 3].map(() => open(python(FOREVER)));
    await Promise.all(held.map(startOf));
    const codes = await Promise.all([codeOf(run(once('retry'))), codeOf(run(once('retry')))]);
    assert.deepEqual(codes, ['QUOTA_EXCEEDED', 'QUOTA_EXCEEDED']);
    for (const stream of held) stream.cancel();
    await Promise.allSettled(held.map((stream) => stream.rest()));
    await idle();
    assert.equal(await codeOf(run(once('retry'))), 'none');
  });

  test('of a caller that waits longer than its own deadline, only the wait ends', async () => {
    const spec = python('import time; print("up", flush=True); time.sleep(5); print("done")', {
      idempotencyKey: 'patience',
    });
    const patient = open(spec);
    await startOf(patient);
    const hasty = open(spec, service.alice, { deadline: Date.now() + 400 });
    await assert.rejects(hasty.rest());
    const rest = await patient.rest();
    assert.equal(textOf(rest, 'stdout'), 'up\ndone\n');
    assert.equal(endOf(rest)?.killedBy, KilledBy.EXIT);
  });
});

describe('D5: CreateSandbox under a key', () => {
  const create = (key: string, name: string) =>
    call(
      service.rig.boxes,
      'createSandbox',
      { name, role: '', idempotencyKey: key, spec: undefined },
      service.alice,
    );

  test('makes one sandbox for all its calls, and says so when it has ended', async () => {
    const [one, two] = await Promise.all([create('box', 'kept'), create('box', 'kept')]);
    const sandboxId = one.sandbox?.sandboxId ?? '';
    assert.equal(two.sandbox?.sandboxId, sandboxId);
    assert.equal((await create('box', 'kept')).sandbox?.state, SandboxState.READY);
    assert.equal(await codeOf(create('box', 'other')), 'INVALID_REQUEST');
    assert.equal(await codeOf(create('', 'kept')), 'SESSION_EXISTS');
    await call(service.rig.boxes, 'deleteSandbox', { sandboxId, name: '' }, service.alice);
    const after = (await create('box', 'kept')).sandbox;
    assert.deepEqual([after?.sandboxId, after?.state], [sandboxId, SandboxState.ENDED]);
  });
});
