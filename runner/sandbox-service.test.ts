import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { IsolationTier, KilledBy, SandboxSpec, SandboxState } from '#proto';
import { call, codeOf, python } from './test-rig.ts';
import { endOf, FOREVER, inside, serviceRig, session, startOf, until } from './testing.ts';

const service = serviceRig();
const { run, open } = service;

describe('C4: sandboxes that are kept', () => {
  const create = (name: string, who = service.alice) =>
    call(
      service.rig.boxes,
      'createSandbox',
      { name, role: '', idempotencyKey: '', spec: undefined },
      who,
    );
  const remove = (one: { sandboxId?: string; name?: string }, who = service.alice) =>
    call(service.rig.boxes, 'deleteSandbox', { sandboxId: '', name: '', ...one }, who);
  const get = (one: { sandboxId?: string; name?: string }, who = service.alice) =>
    call(service.rig.boxes, 'getSandbox', { sandboxId: '', name: '', ...one }, who);
  const list = (who = service.alice, pageSize = 0, pageToken = '') =>
    call(service.rig.boxes, 'listSandboxes', { pageSize, pageToken }, who);

  test('a session keeps its workspace, and nothing else of a program', async () => {
    const first = await run(
      python('open("kept", "w").write("1"); import os; os.environ["V"] = "1"; x = 1', session('s')),
    );
    const second = await run(
      python(
        'import os; print(open("kept").read(), "V" in os.environ, "x" in globals())',
        session('s'),
      ),
    );
    assert.equal(second.stdout.toString(), '1 False False\n');
    assert.equal(second.started?.sandboxId, first.started?.sandboxId);
    assert.equal(second.started?.session, 's');
    const byId = await run(
      python('print(open("kept").read())', inside(first.started?.sandboxId ?? '')),
    );
    assert.equal(byId.stdout.toString(), '1\n');

    const { sandbox } = await get({ name: 's' });
    assert.deepEqual(
      [sandbox?.state, sandbox?.role, sandbox?.profile],
      [SandboxState.READY, 'tester', 'python'],
    );
    await remove({ name: 's' });
    await until(() =>
      service.rig.isGone(sandbox?.sandboxId ?? '', sandbox?.attestation?.hostUid ?? 0),
    );
    assert.equal(await codeOf(get({ name: 's' })), 'SESSION_NOT_FOUND');
    assert.equal(await codeOf(run(python('', session('s', true)))), 'SESSION_NOT_FOUND');
    assert.deepEqual(await remove({ name: 's' }), {});
  });

  test("are nobody else's: not to see, to use, to delete, nor by their name", async () => {
    const { sandbox } = await create('mine');
    const id = sandbox?.sandboxId ?? '';
    const theirs = await codeOf(run(python('', inside(id)), service.bob));
    assert.equal(
      theirs,
      await codeOf(run(python('', inside('sbx-none')), service.bob)),
      'no difference to one that is not there',
    );
    assert.equal(theirs, 'SANDBOX_NOT_FOUND');
    assert.equal(await codeOf(get({ sandboxId: id }, service.bob)), 'SANDBOX_NOT_FOUND');
    assert.equal(await codeOf(get({ name: 'mine' }, service.bob)), 'SESSION_NOT_FOUND');
    assert.equal(
      await codeOf(call(service.rig.files, 'statFile', { sandboxId: id, path: '/' }, service.bob)),
      'SANDBOX_NOT_FOUND',
    );
    await remove({ sandboxId: id }, service.bob);
    assert.deepEqual((await list(service.bob)).sandboxes, []);
    assert.equal((await list()).sandboxes[0]?.sandboxId, id, "bob's delete has deleted nothing");
    const bobs = await run(python('', session('mine')), service.bob);
    assert.notEqual(bobs.started?.sandboxId, id);
    await Promise.all([remove({ name: 'mine' }), remove({ name: 'mine' }, service.bob)]);
  });

  test('run one program at a time', async () => {
    const stream = open(python(FOREVER, session('busy')));
    const { sandboxId } = await startOf(stream);
    await stream.next();
    assert.equal(await codeOf(run(python('', session('busy')))), 'SESSION_BUSY');
    assert.equal((await get({ sandboxId })).sandbox?.state, SandboxState.BUSY);
    await remove({ sandboxId });
    const end = endOf(await stream.rest());
    assert.deepEqual(
      [end?.killedBy, end?.detail],
      [KilledBy.DISCONNECT, 'the sandbox was deleted'],
    );
  });

  test('a program that was ended by its time-out leaves its session usable', async () => {
    const timed = await run(
      python(`open("kept", "w").write("1")\n${FOREVER}`, {
        ...session('t'),
        timeout: { seconds: 3n, nanos: 0 }, // for the file to be written
      }),
    );
    assert.equal(timed.end?.killedBy, KilledBy.TIMEOUT);
    const { stdout, started } = await run(python('print(open("kept").read())', session('t')));
    assert.deepEqual([stdout.toString(), started?.sandboxId], ['1\n', timed.started?.sandboxId]);
    await remove({ name: 't' });
  });

  test('have one name each and are so many, also where they are asked for at the same time', async () => {
    const codes = await Promise.all(
      ['one', 'one', 'two', 'three'].map((name) => codeOf(create(name))),
    );
    // Which of them come first is not said; a name may be made already or being made.
    assert.equal(codes.filter((code) => code === 'none').length, 2, codes.join());
    for (const code of codes)
      assert.ok(['none', 'SESSION_BUSY', 'SESSION_EXISTS', 'QUOTA_EXCEEDED'].includes(code), code);
    const { sandboxes } = await list();
    const [one = '', two = ''] = sandboxes.map(({ name }) => name);
    assert.equal(sandboxes.length, 2);
    assert.notEqual(one, two);
    assert.equal(await codeOf(create(one)), 'SESSION_EXISTS');

    const first = await list(service.alice, 1);
    const second = await list(service.alice, 1, first.nextPageToken);
    assert.deepEqual(
      [first.sandboxes.length, second.sandboxes.length, second.nextPageToken],
      [1, 1, ''],
    );
    assert.notEqual(first.sandboxes[0]?.sandboxId, second.sandboxes[0]?.sandboxId);
    await Promise.all([remove({ name: one }), remove({ name: two })]);
    assert.equal(await codeOf(create('')), 'none');
    const [unnamed] = (await list()).sandboxes;
    await remove({ sandboxId: unnamed?.sandboxId ?? '' });
  });

  test('who names neither an id nor a name, or both, gets and ends nothing', async () => {
    const { sandbox } = await create('');
    const { sandboxId = '' } = sandbox ?? {};
    for (const one of [{}, { sandboxId, name: 'x' }]) {
      await assert.rejects(get(one), /sandbox_id or name/);
      assert.equal(await codeOf(get(one)), 'INVALID_REQUEST');
      assert.equal(await codeOf(remove(one)), 'INVALID_REQUEST');
    }
    assert.equal((await get({ sandboxId })).sandbox?.name, '', 'control: it is there');
    await remove({ sandboxId });
  });

  describe('end by their own limits', () => {
    const limited = (spec: Partial<SandboxSpec>, name = 'limited') =>
      call(
        service.rig.boxes,
        'createSandbox',
        { name, role: '', idempotencyKey: '', spec: SandboxSpec.fromPartial(spec) },
        service.alice,
      );
    const seconds = (s: number) => ({ seconds: BigInt(s), nanos: 0 });

    test('idle_timeout and max_lifetime are those that were asked for', async () => {
      const { sandbox } = await limited({ idleTimeout: seconds(60), maxLifetime: seconds(120) });
      const { createdAt, expiresAt, idleTimeout } = sandbox ?? {};
      assert.equal(Number(expiresAt) - Number(createdAt), 120_000);
      assert.deepEqual(idleTimeout, { seconds: 60n, nanos: 0 });
      await remove({ name: 'limited' });
    });

    for (const [what, spec] of [
      ['idle_timeout', { idleTimeout: { seconds: 0n, nanos: 300_000_000 } }],
      ['max_lifetime', { maxLifetime: { seconds: 0n, nanos: 300_000_000 } }],
    ] as const)
      test(`${what} ends it, and nothing is left`, async () => {
        const { sandbox } = await limited(spec, what);
        const { sandboxId = '', attestation } = sandbox ?? {};
        await until(() => service.rig.isGone(sandboxId, attestation?.hostUid ?? 0));
        assert.equal(await codeOf(get({ name: what })), 'SESSION_NOT_FOUND');
      });

    test('more than the role gives is refused, and so are limits for a sandbox of one exec', async () => {
      assert.equal(await codeOf(limited({ idleTimeout: seconds(1_801) })), 'INVALID_REQUEST');
      assert.equal(
        await codeOf(limited({ maxLifetime: seconds(4 * 3_600 + 1) })),
        'INVALID_REQUEST',
      );
      assert.equal(await codeOf(limited({ idleTimeout: seconds(0) })), 'INVALID_REQUEST');
      const value = SandboxSpec.fromPartial({ idleTimeout: seconds(60) });
      const fresh = python('', { target: { $case: 'fresh', value } });
      assert.equal(await codeOf(run(fresh)), 'INVALID_REQUEST');
    });
  });

  test('without a credential a runner tells its load, its name and its version, and nothing else', async () => {
    const nobody = service.alice.clone();
    nobody.remove('authorization');
    const told = await call(service.rig.boxes, 'getCapabilities', {}, nobody);
    assert.deepEqual([told.backends, told.profiles], [[], []]);
    assert.equal(told.load?.capacity, 16);
    assert.ok(told.runnerId !== '' && told.version !== '');
    const forged = service.rig.bearer('nonsense');
    const wrong = call(service.rig.boxes, 'getCapabilities', {}, forged);
    assert.equal(await codeOf(wrong), 'UNAUTHENTICATED');
  });

  test('a runner says what it can do', async () => {
    const { backends, profiles, load } = await call(
      service.rig.boxes,
      'getCapabilities',
      {},
      service.alice,
    );
    assert.deepEqual(
      backends.map(({ name, tier, usable }) => [name, tier, usable]),
      [['bubblewrap', IsolationTier.NAMESPACES, true]],
    );
    assert.deepEqual(profiles[0]?.languages, ['python', 'shell']);
    assert.deepEqual([load?.capacity, load?.draining], [16, false]);
  });

  test('of each profile it says how many are warm, and only of that one', async () => {
    const warm = async () => {
      const { profiles } = await call(service.rig.boxes, 'getCapabilities', {}, service.alice);
      return profiles.map((one) => [one.name, one.warm] as const);
    };
    await until(async () => (Object.fromEntries(await warm())['python'] ?? 0) > 0);
    const others = (await warm()).filter(([name]) => name !== 'python');
    assert.deepEqual(others, [
      ['python-data', 0],
      ['node', 0],
      ['shell', 0],
    ]);
  });
});
