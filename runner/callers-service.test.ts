import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { readSigningKey } from '#core/keys';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { AssertionSigner, generateSigningKey } from '#core/tokens';
import { ListFilesRequest } from '#proto';
import { call, codeOf, ISSUER, python } from './test-rig.ts';
import { FOREVER, serviceRig, startOf, until } from './testing.ts';

const service = serviceRig();
const { run, open, idle } = service;

describe('who may', () => {
  test('a call is who its assertion says, and nobody with any other', async () => {
    const stranger = new AssertionSigner(generateSigningKey('outrider:gateway'));
    const forged = await stranger.sign({ ...LOCAL_PRINCIPAL, issuer: ISSUER, subject: 'alice' });
    for (const token of [forged, 'nonsense', ''])
      assert.equal(
        await codeOf(run(python(''), service.rig.bearer(token))),
        'UNAUTHENTICATED',
        token,
      );
    assert.equal((await run(python('print(1)'))).stdout.toString(), '1\n');
  });

  test('without one it is the local principal where the supervisor says so, and nobody where it does not', async () => {
    const nobody = service.alice.clone();
    nobody.remove('authorization');
    assert.equal(await codeOf(run(python(''), nobody)), 'UNAUTHENTICATED');
    const key = readSigningKey(join(service.rig.runtime, 'keys', 'local.key.json'));
    const file = join(service.rig.runtime, 'local-assertion.jwt');
    writeFileSync(file, await new AssertionSigner(key).sign(LOCAL_PRINCIPAL));
    assert.equal((await run(python('print(1)'), nobody)).stdout.toString(), '1\n');
    // What is sent counts, and is never replaced by the local principal where it is not usable.
    for (const value of ['Basic abc', 'Bearer', 'Bearer a b']) {
      nobody.set('authorization', value);
      assert.equal(await codeOf(run(python(''), nobody)), 'UNAUTHENTICATED', value);
    }
    rmSync(file);
  });

  test('a principal of several roles names one; of none, or not of that one, is denied', async () => {
    const both = await service.rig.as('both');
    assert.equal(await codeOf(run(python(''), both)), 'ROLE_AMBIGUOUS');
    assert.equal((await run(python('', { role: 'other' }), both)).started?.role, 'other');
    assert.equal((await run(python('', { role: 'tester' }), both)).started?.role, 'tester');
    assert.equal(await codeOf(run(python('', { role: 'other' }))), 'ROLE_DENIED');
    assert.equal(await codeOf(run(python(''), await service.rig.as('mallory'))), 'ROLE_DENIED');
  });

  test('a role that the gateway authorised is the only one', async () => {
    const bound = await service.rig.as('both', { role: 'other' });
    assert.equal((await run(python(''), bound)).started?.role, 'other');
    assert.equal(await codeOf(run(python('', { role: 'tester' }), bound)), 'ROLE_DENIED');
    assert.equal(
      await codeOf(run(python(''), await service.rig.as('alice', { role: 'other' }))),
      'ROLE_DENIED',
    );
  });

  test('what it has authorised for one role touches nothing of another', async () => {
    const request = { name: 'of-tester', role: 'tester', idempotencyKey: '', spec: undefined };
    const both = await service.rig.as('both');
    const { sandbox } = await call(service.rig.boxes, 'createSandbox', request, both);
    const sandboxId = sandbox?.sandboxId ?? '';
    const of = { sandboxId, name: '' };
    const list = ListFilesRequest.fromPartial({ sandboxId });
    const other = await service.rig.as('both', { role: 'other' });
    const { execId } = (await run(python('', { role: 'tester' }), both)).started ?? { execId: '' };
    for (const refused of [
      () => call(service.rig.files, 'listFiles', list, other),
      () => call(service.rig.boxes, 'getSandbox', of, other),
      () => call(service.rig.boxes, 'deleteSandbox', of, other),
      () => call(service.rig.execs, 'getExec', { execId }, other),
    ])
      assert.equal(await codeOf(refused()), 'ROLE_DENIED');
    const tester = await service.rig.as('both', { role: 'tester' });
    for (const allowed of [
      () => call(service.rig.files, 'listFiles', list, both),
      () => call(service.rig.boxes, 'getSandbox', of, tester),
      () => call(service.rig.execs, 'getExec', { execId }, both),
      () => call(service.rig.boxes, 'deleteSandbox', of, both),
    ])
      await allowed();
  });

  test("another's exec cannot be seen or cancelled", async () => {
    const stream = open(python(FOREVER));
    const { execId } = await startOf(stream);
    for (const who of [service.bob, await service.rig.as('both')]) {
      assert.equal(
        await codeOf(call(service.rig.execs, 'getExec', { execId }, who)),
        'EXEC_NOT_FOUND',
      );
      assert.equal(
        await codeOf(call(service.rig.execs, 'cancelExec', { execId, cancelKey: '' }, who)),
        'EXEC_NOT_FOUND',
      );
    }
    assert.equal(
      (await call(service.rig.execs, 'getExec', { execId }, service.alice)).end,
      undefined,
    );
    stream.cancel();
    await assert.rejects(stream.rest());
  });

  test('C13: each has so many programs at one time, and the next is told to wait', async () => {
    await idle();
    const streams = [1, 2, 3].map(() => open(python(FOREVER)));
    await Promise.all(streams.map(startOf));
    assert.equal(await codeOf(run(python(''))), 'QUOTA_EXCEEDED');
    assert.equal((await run(python('print(1)'), service.bob)).stdout.toString(), '1\n');
    for (const stream of streams) stream.cancel();
    await Promise.allSettled(streams.map((stream) => stream.rest()));
    await idle();
    assert.equal(await codeOf(run(python(''))), 'none');
  });

  test('C13: what another runner runs for a caller takes one of their places here, until it is let go', async () => {
    await idle();
    /** A place that is held. */
    const hold = async (role = '') => {
      const stream = service.rig.execs.holdPlace({ role }, service.alice);
      stream.on('error', () => {}); // told by the iterator, and when it is cancelled
      const held = await stream[Symbol.asyncIterator]().next();
      assert.equal(held.done, false);
      return stream;
    };
    const held = [await hold(), await hold('tester'), await hold()];
    assert.equal(await codeOf(hold()), 'QUOTA_EXCEEDED');
    assert.equal(await codeOf(run(python(''))), 'QUOTA_EXCEEDED');
    assert.equal(await codeOf(run(python(''), service.bob)), 'none');
    assert.equal(await codeOf(hold('other')), 'ROLE_DENIED');
    for (const stream of held) stream.cancel();
    await until(async () => (await codeOf(run(python('')))) === 'none');
  });
});
