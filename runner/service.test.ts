import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Metadata, status } from '@grpc/grpc-js';
import { readSigningKey } from '#core/keys';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { AssertionSigner, generateSigningKey } from '#core/tokens';
import {
  type ExecResponse,
  ExecSpec,
  FileType,
  IsolationTier,
  KilledBy,
  OutputOverflow,
  type RunResponse,
  SandboxSpec,
  SandboxState,
  HealthCheckResponse_ServingStatus as Serving,
  type WriteFileRequest,
} from '#proto';
import {
  call,
  codeOf,
  type ExecStream,
  ISSUER,
  openExec,
  python,
  type Rig,
  startRig,
} from './test-rig.ts';

const MIB = 2 ** 20;
const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members:
    - {issuer: "${ISSUER}", subject: alice}
    - {issuer: "${ISSUER}", subject: bob}
    - {issuer: "${ISSUER}", subject: both}
    - {issuer: "outrider:local"}
  sandbox: {timeout: 20s, output: 200MiB, disk: 8MiB, memory: 256MiB, sessions: 2, concurrent: 3}
---
apiVersion: outrider/v1
kind: Role
metadata: {name: other, owner: tests}
spec:
  members:
    - {issuer: "${ISSUER}", subject: both}
  sandbox: {timeout: 20s, disk: 8MiB, memory: 256MiB}
`;

let rig: Rig;
let alice: Metadata;
let bob: Metadata;
before(async () => {
  rig = await startRig(POLICIES, ['--pool-size', '2', '--drain-timeout', '3s', '--capacity', '16']);
  alice = await rig.as('alice');
  bob = await rig.as('bob');
});
after(() => rig.stop());

const run = (spec: ExecSpec, who = alice): Promise<RunResponse> =>
  call(rig.execs, 'run', { spec }, who);
const open = (spec: ExecSpec, who = alice, options: { deadline?: number } = {}): ExecStream =>
  openExec(rig.execs, who, spec, options);
const session = (name: string, mustExist = false): Partial<ExecSpec> => ({
  target: { $case: 'session', value: { name, mustExist, create: undefined } },
});
const inside = (id: string): Partial<ExecSpec> => ({ target: { $case: 'sandboxId', value: id } });

type Response = NonNullable<ExecResponse['response']>;
const textOf = (responses: readonly Response[], stream: 'stdout' | 'stderr'): string =>
  responses.map((one) => (one.$case === stream ? one.value.data.toString() : '')).join('');
const endOf = (responses: readonly Response[]) => {
  const ends = responses.flatMap((one) => (one.$case === 'end' ? [one.value] : []));
  assert.equal(ends.length, 1, 'an exec ends once');
  assert.equal(responses.at(-1)?.$case, 'end', 'and last');
  return ends[0];
};
/** The start of a stream's exec. */
const startOf = async (stream: ExecStream) => {
  const first = await stream.next();
  assert.ok(first?.$case === 'started', JSON.stringify(first?.$case));
  return first.value;
};
const until = async (condition: () => boolean, withinMs: number): Promise<number> => {
  const from = performance.now();
  while (!condition()) {
    assert.ok(performance.now() - from < withinMs, `not within ${withinMs} ms`);
    await sleep(10);
  }
  return performance.now() - from;
};
/** Waits until nothing runs any more: a caller that left is told before its program's end is accounted for. */
const idle = async (): Promise<void> => {
  for (let tries = 0; ; tries++) {
    const { load } = await call(rig.boxes, 'getCapabilities', {}, alice);
    if (load?.running === 0) return;
    assert.ok(tries < 200, `${load?.running} still run`);
    await sleep(10);
  }
};
const FOREVER = 'import time\nprint("up", flush=True)\nwhile True: time.sleep(1)';

describe('Run', () => {
  test('answers with output, end, and what held the program', async () => {
    const metadata = alice.clone();
    metadata.set('x-request-id', 'my-request');
    const { started, stdout, stderr, end } = await run(
      python('import sys; print("out"); print("err", file=sys.stderr); sys.exit(3)'),
      metadata,
    );
    assert.deepEqual([stdout.toString(), stderr.toString()], ['out\n', 'err\n']);
    assert.deepEqual([end?.killedBy, end?.exitCode], [KilledBy.EXIT, 3]);
    assert.ok(started?.attestation);
    assert.deepEqual(
      [started.role, started.requestId, started.session],
      ['tester', 'my-request', ''],
    );
    assert.match(started.policyDigest, /^[0-9a-f]{64}$/);
    const { attestation } = started;
    assert.equal(attestation.tier, IsolationTier.NAMESPACES);
    assert.equal(attestation.noNewPrivileges, true);
    assert.match(attestation.effectiveCapabilities, /^0+$/);
    for (const name of ['user', 'pid', 'mnt', 'net', 'ipc'])
      assert.ok(attestation.ownNamespaces.includes(name), name);
    assert.equal(attestation.limits?.memoryBytes, BigInt(256 * MIB));
    assert.ok(end?.usage && end.usage.maxRssBytes > 0n);
    const record = rig.audit().find((one) => one['requestId'] === 'my-request');
    assert.deepEqual(
      [record?.['event'], record?.['killedBy'], record?.['subject'], record?.['exitCode']],
      ['exec', 'exit', 'alice', 3],
    );
  });

  test('gives stdin whole, environment, arguments, directory and files', async () => {
    const { stdout } = await run(
      ExecSpec.fromPartial({
        program: {
          $case: 'source',
          value: {
            language: 'python',
            args: ['a b'],
            code: 'import os, sys; print(sys.stdin.read(), sys.argv, os.environ["V"], os.getcwd(), open("/workspace/d/f").read())',
          },
        },
        stdin: Buffer.from('in'),
        env: { V: 'v' },
        workingDirectory: '/tmp',
        files: [{ path: 'd/f', content: Buffer.from('file') }],
      }),
    );
    assert.equal(stdout.toString(), "in ['main.py', 'a b'] v /tmp file\n");
  });

  test('runs shell and commands', async () => {
    const shell = ExecSpec.fromPartial({
      program: {
        $case: 'source',
        value: { language: 'shell', code: 'echo $0 $1; exit 4', args: ['x'] },
      },
    });
    const { stdout, end } = await run(shell);
    assert.deepEqual([stdout.toString(), end?.exitCode], ['main.sh x\n', 4]);
    const command = ExecSpec.fromPartial({
      program: { $case: 'command', value: { argv: ['echo', '$HOME'] } },
    });
    assert.equal((await run(command)).stdout.toString(), '$HOME\n');
  });

  test('says where the middle of long output is missing, and how much', async () => {
    const { stdout, end } = await run(
      python('print("a" * 499 + "\\n" + "x" * 100_000 + "\\n" + "z" * 498)', {
        output: { bytes: 1_000n, overflow: OutputOverflow.TRUNCATE },
      }),
    );
    assert.equal(
      stdout.toString(),
      `${'a'.repeat(499)}\n\n[... 100000 bytes dropped ...]\n\n${'z'.repeat(498)}\n`,
    );
    assert.deepEqual(end?.stdout, { captured: 1_000n, total: 101_000n, dropped: 100_000n });
    assert.equal(end.killedBy, KilledBy.EXIT);
    const killed = await run(
      python('while True: print("x" * 1000)', {
        output: { bytes: 1_000n, overflow: OutputOverflow.KILL },
      }),
    );
    assert.equal(killed.end?.killedBy, KilledBy.OUTPUT);
  });

  test('answers within 3 MiB, whatever the role allows, and names what it leaves out', async () => {
    const { stdout, stderr, end } = await run(
      python(`
import sys
sys.stdout.write("x" * (3 << 20)); sys.stderr.write("y" * (3 << 20))
for n in range(8): open(f"/output/{n}", "wb").write(bytes(250_000))
`),
    );
    assert.deepEqual([end?.stdout?.captured, end?.stderr?.captured], [BigInt(MIB), BigInt(MIB)]);
    const inline = end?.artefacts.filter(({ content }) => content.length > 0) ?? [];
    assert.deepEqual([end?.artefacts.length, inline.length], [8, 4]);
    assert.ok(stdout.length + stderr.length + 4 * 250_000 <= 3 * MIB);
    const asked = python('', {
      output: { bytes: BigInt(2 * MIB), overflow: OutputOverflow.TRUNCATE },
    });
    assert.equal(await codeOf(run(asked)), 'INVALID_REQUEST');
    assert.equal(
      endOf(await open(asked).rest())?.killedBy,
      KilledBy.EXIT,
      'by Exec it may be asked for',
    );
  });

  test('leaves nothing of a fresh sandbox', async () => {
    const { started } = await run(
      python('import os\nif os.fork() == 0:\n  import time; time.sleep(60)'),
    );
    await until(
      () => rig.isGone(started?.sandboxId ?? '', started?.attestation?.hostUid ?? 0),
      2_000,
    );
  });

  const refused: readonly (readonly [string, ExecSpec | undefined, string])[] = [
    ['nothing to run', undefined, 'INVALID_REQUEST'],
    ['no program', ExecSpec.fromPartial({}), 'INVALID_REQUEST'],
    [
      "a variable of the sandbox's own",
      python('', { env: { https_proxy: 'x' } }),
      'INVALID_REQUEST',
    ],
    ['too much time', python('', { timeout: { seconds: 21n, nanos: 0 } }), 'INVALID_REQUEST'],
    [
      'too much output',
      python('', { output: { bytes: 2n ** 40n, overflow: 0 } }),
      'INVALID_REQUEST',
    ],
    [
      'a file outside',
      python('', { files: [{ path: '../x', content: Buffer.alloc(0), mode: 0 }] }),
      'INVALID_REQUEST',
    ],
    ['a program of more than 1 MiB', python('#'.repeat(MIB + 1)), 'BODY_TOO_LARGE'],
    [
      'an order that no frame holds',
      python('', { env: { A: '\u0001'.repeat(1.4 * MIB) } }),
      'BODY_TOO_LARGE',
    ],
    [
      'a profile that is not there',
      python('', { target: { $case: 'fresh', value: SandboxSpec.fromPartial({ profile: 'x' }) } }),
      'PROFILE_UNKNOWN',
    ],
    [
      'a stronger tier',
      python('', {
        target: {
          $case: 'fresh',
          value: SandboxSpec.fromPartial({ minimumTier: IsolationTier.GVISOR }),
        },
      }),
      'BACKEND_TOO_WEAK',
    ],
    ['a session that must exist', python('', session('none', true)), 'SESSION_NOT_FOUND'],
    ['a sandbox that is not there', python('', inside('sbx-none')), 'SANDBOX_NOT_FOUND'],
  ];
  for (const [what, spec, code] of refused)
    test(`${code}: ${what}`, async () => {
      const answer = new Promise((resolve, reject) => {
        rig.execs.run({ spec }, alice, (error, value) => (error ? reject(error) : resolve(value)));
      });
      assert.equal(await codeOf(answer), code);
    });
});

describe('Exec', () => {
  test('is started, then what is written as it is written with its offsets, then the end', async () => {
    const stream = open(
      python(
        'import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)\nprint("bye")',
        {
          openStdin: true,
        },
      ),
    );
    const { execId } = await startOf(stream);
    assert.match(execId, /^exec-/);
    stream.send({ $case: 'stdin', value: Buffer.from('ab\n') });
    const first = await stream.next();
    assert.ok(first?.$case === 'stdout');
    assert.deepEqual([first.value.data.toString(), first.value.offset], ['AB\n', 0n]);
    stream.send({ $case: 'stdin', value: Buffer.from('cd\n') });
    const second = await stream.next();
    assert.ok(second?.$case === 'stdout');
    assert.deepEqual([second.value.data.toString(), second.value.offset], ['CD\n', 3n]);
    stream.send({ $case: 'closeStdin', value: {} });
    const rest = await stream.rest();
    assert.equal(textOf(rest, 'stdout'), 'bye\n');
    assert.deepEqual([endOf(rest)?.killedBy, endOf(rest)?.exitCode], [KilledBy.EXIT, 0]);
  });

  test('closes stdin when the requests end, and goes on to the end of the program', async () => {
    const stream = open(
      python('import sys, time; sys.stdin.read(); time.sleep(0.1); print("done")', {
        openStdin: true,
      }),
    );
    await startOf(stream);
    stream.halfClose();
    assert.equal(textOf(await stream.rest(), 'stdout'), 'done\n');
  });

  test('without open_stdin the program reads the end of file at once', async () => {
    const stream = open(python('import sys; print(repr(sys.stdin.read()))'));
    assert.equal(textOf(await stream.rest(), 'stdout'), "''\n");
  });

  test('passes signals on, also one that the program handles', async () => {
    const stream = open(
      python(
        'import os, signal, time\nsignal.signal(10, lambda *_: os.write(1, b"usr1\\n"))\nprint("up", flush=True)\nwhile True: time.sleep(1)',
      ),
    );
    await startOf(stream);
    await stream.next();
    stream.send({ $case: 'signal', value: 10 });
    const heard = await stream.next();
    assert.equal(heard?.$case === 'stdout' && heard.value.data.toString(), 'usr1\n');
    stream.send({ $case: 'signal', value: 15 });
    const end = endOf(await stream.rest());
    assert.deepEqual([end?.killedBy, end?.signal], [KilledBy.SIGNAL, 'SIGTERM']);
  });

  test('ends with its time-out', async () => {
    const stream = open(python(FOREVER, { timeout: { seconds: 0n, nanos: 300_000_000 } }));
    const end = endOf(await stream.rest());
    assert.deepEqual([end?.killedBy, end?.errorCode], [KilledBy.TIMEOUT, 'DEADLINE_EXCEEDED']);
  });

  test('a first request that is no start, and a later one that is, are refused', async () => {
    const wrong = rig.execs.exec(alice);
    wrong.on('error', () => {});
    const failed = (async () => {
      for await (const _ of wrong);
    })();
    wrong.write({ request: { $case: 'closeStdin', value: {} } });
    assert.equal(await codeOf(failed), 'INVALID_REQUEST');

    const twice = open(python(FOREVER));
    await startOf(twice);
    await twice.next();
    twice.send({ $case: 'start', value: python('') });
    assert.equal(endOf(await twice.rest())?.errorCode, 'INVALID_REQUEST');
  });

  for (const [what, leave] of [
    ['cancelling', (stream: ExecStream) => stream.cancel()],
    ['its deadline', () => {}],
  ] as const)
    test(`${what} ends the program, and the sandbox is gone within 2 s`, async () => {
      const options = what === 'its deadline' ? { deadline: Date.now() + 700 } : {};
      const stream = open(
        python(`import signal\nsignal.signal(15, signal.SIG_IGN)\n${FOREVER}`),
        alice,
        options,
      );
      const started = await startOf(stream);
      await stream.next();
      assert.equal(rig.isGone(started.sandboxId, started.attestation?.hostUid ?? 0), false);
      leave(stream);
      const wanted = what === 'its deadline' ? status.DEADLINE_EXCEEDED : status.CANCELLED;
      await assert.rejects(stream.rest(), { code: wanted });
      await until(() => rig.isGone(started.sandboxId, started.attestation?.hostUid ?? 0), 2_000);
      const { end } = await call(rig.execs, 'getExec', { execId: started.execId }, alice);
      const reason = what === 'its deadline' ? KilledBy.TIMEOUT : KilledBy.DISCONNECT;
      assert.equal(end?.killedBy, reason);
    });

  test('CancelExec ends it; cancelling again, or what has ended, changes nothing', async () => {
    const stream = open(python(FOREVER));
    const { execId } = await startOf(stream);
    const running = await call(rig.execs, 'getExec', { execId }, alice);
    assert.equal(running.end, undefined);
    await call(rig.execs, 'cancelExec', { execId }, alice);
    const end = endOf(await stream.rest());
    assert.deepEqual([end?.killedBy, end?.errorCode], [KilledBy.DISCONNECT, 'CANCELLED']);
    await call(rig.execs, 'cancelExec', { execId }, alice);
    const { end: remembered } = await call(rig.execs, 'getExec', { execId }, alice);
    assert.equal(remembered?.killedBy, KilledBy.DISCONNECT);
  });

  test('100 MB to a slow reader do not grow the runner by 64 MiB, and all of it arrives', async () => {
    const stream = open(
      python('import sys\npiece = "x" * 1_000_000\nfor _ in range(100): sys.stdout.write(piece)', {
        output: { bytes: BigInt(150 * MIB), overflow: OutputOverflow.TRUNCATE },
      }),
    );
    await startOf(stream);
    const from = rig.rss(rig.runner);
    let most = from;
    let bytes = 0;
    let nextPauseAt = 0;
    for (let one = await stream.next(); one; one = await stream.next()) {
      if (one.$case === 'stdout') bytes += one.value.data.length;
      if (one.$case === 'end')
        assert.deepEqual(one.value.stdout, {
          captured: 100_000_000n,
          total: 100_000_000n,
          dropped: 0n,
        });
      if (bytes >= nextPauseAt) {
        nextPauseAt += 20_000_000;
        await sleep(150);
        most = Math.max(most, rig.rss(rig.runner));
      }
    }
    assert.equal(bytes, 100_000_000);
    assert.ok(most - from < 64 * MIB, `grew by ${Math.round((most - from) / MIB)} MiB`);
  });
});

describe('who may', () => {
  test('a call is who its assertion says, and nobody with any other', async () => {
    const stranger = new AssertionSigner(generateSigningKey('outrider:gateway'));
    const forged = await stranger.sign({ ...LOCAL_PRINCIPAL, issuer: ISSUER, subject: 'alice' });
    for (const token of [forged, 'nonsense', ''])
      assert.equal(await codeOf(run(python(''), rig.bearer(token))), 'UNAUTHENTICATED', token);
    assert.equal((await run(python('print(1)'))).stdout.toString(), '1\n');
  });

  test('without one it is the local principal where the supervisor says so, and nobody where it does not', async () => {
    const nobody = alice.clone();
    nobody.remove('authorization');
    assert.equal(await codeOf(run(python(''), nobody)), 'UNAUTHENTICATED');
    const key = readSigningKey(join(rig.runtime, 'keys', 'local.key.json'));
    const file = join(rig.runtime, 'local-assertion.jwt');
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
    const both = await rig.as('both');
    assert.equal(await codeOf(run(python(''), both)), 'ROLE_AMBIGUOUS');
    assert.equal((await run(python('', { role: 'other' }), both)).started?.role, 'other');
    assert.equal((await run(python('', { role: 'tester' }), both)).started?.role, 'tester');
    assert.equal(await codeOf(run(python('', { role: 'other' }))), 'ROLE_DENIED');
    assert.equal(await codeOf(run(python(''), await rig.as('mallory'))), 'ROLE_DENIED');
  });

  test('a role that the gateway authorised is the only one', async () => {
    const bound = await rig.as('both', { role: 'other' });
    assert.equal((await run(python(''), bound)).started?.role, 'other');
    assert.equal(await codeOf(run(python('', { role: 'tester' }), bound)), 'ROLE_DENIED');
    assert.equal(
      await codeOf(run(python(''), await rig.as('alice', { role: 'other' }))),
      'ROLE_DENIED',
    );
  });

  test("another's exec cannot be seen or cancelled", async () => {
    const stream = open(python(FOREVER));
    const { execId } = await startOf(stream);
    for (const who of [bob, await rig.as('both')]) {
      assert.equal(await codeOf(call(rig.execs, 'getExec', { execId }, who)), 'EXEC_NOT_FOUND');
      assert.equal(await codeOf(call(rig.execs, 'cancelExec', { execId }, who)), 'EXEC_NOT_FOUND');
    }
    assert.equal((await call(rig.execs, 'getExec', { execId }, alice)).end, undefined);
    stream.cancel();
    await assert.rejects(stream.rest());
  });

  test('each has so many programs at one time, and the next is told to wait', async () => {
    await idle();
    const streams = [1, 2, 3].map(() => open(python(FOREVER)));
    await Promise.all(streams.map(startOf));
    assert.equal(await codeOf(run(python(''))), 'QUOTA_EXCEEDED');
    assert.equal((await run(python('print(1)'), bob)).stdout.toString(), '1\n');
    for (const stream of streams) stream.cancel();
    await Promise.allSettled(streams.map((stream) => stream.rest()));
    await idle();
    assert.equal(await codeOf(run(python(''))), 'none');
  });
});

describe('sandboxes that are kept', () => {
  const create = (name: string, who = alice) =>
    call(rig.boxes, 'createSandbox', { name, role: '', idempotencyKey: '', spec: undefined }, who);
  const remove = (one: { sandboxId?: string; name?: string }, who = alice) =>
    call(rig.boxes, 'deleteSandbox', { sandboxId: '', name: '', ...one }, who);
  const get = (one: { sandboxId?: string; name?: string }, who = alice) =>
    call(rig.boxes, 'getSandbox', { sandboxId: '', name: '', ...one }, who);
  const list = (who = alice, pageSize = 0, pageToken = '') =>
    call(rig.boxes, 'listSandboxes', { pageSize, pageToken }, who);

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
    await until(
      () => rig.isGone(sandbox?.sandboxId ?? '', sandbox?.attestation?.hostUid ?? 0),
      2_000,
    );
    assert.equal(await codeOf(get({ name: 's' })), 'SESSION_NOT_FOUND');
    assert.equal(await codeOf(run(python('', session('s', true)))), 'SESSION_NOT_FOUND');
    assert.deepEqual(await remove({ name: 's' }), {});
  });

  test("are nobody else's: not to see, to use, to delete, nor by their name", async () => {
    const { sandbox } = await create('mine');
    const id = sandbox?.sandboxId ?? '';
    const theirs = await codeOf(run(python('', inside(id)), bob));
    assert.equal(
      theirs,
      await codeOf(run(python('', inside('sbx-none')), bob)),
      'no difference to one that is not there',
    );
    assert.equal(theirs, 'SANDBOX_NOT_FOUND');
    assert.equal(await codeOf(get({ sandboxId: id }, bob)), 'SANDBOX_NOT_FOUND');
    assert.equal(await codeOf(get({ name: 'mine' }, bob)), 'SESSION_NOT_FOUND');
    assert.equal(
      await codeOf(call(rig.files, 'statFile', { sandboxId: id, path: '/' }, bob)),
      'SANDBOX_NOT_FOUND',
    );
    await remove({ sandboxId: id }, bob);
    assert.deepEqual((await list(bob)).sandboxes, []);
    assert.equal((await list()).sandboxes[0]?.sandboxId, id, "bob's delete has deleted nothing");
    const bobs = await run(python('', session('mine')), bob);
    assert.notEqual(bobs.started?.sandboxId, id);
    await Promise.all([remove({ name: 'mine' }), remove({ name: 'mine' }, bob)]);
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
        timeout: { seconds: 0n, nanos: 300_000_000 },
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

    const first = await list(alice, 1);
    const second = await list(alice, 1, first.nextPageToken);
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

  test('a runner says what it can do', async () => {
    const { backends, profiles, load } = await call(rig.boxes, 'getCapabilities', {}, alice);
    assert.deepEqual(
      backends.map(({ name, tier, usable }) => [name, tier, usable]),
      [['bubblewrap', IsolationTier.NAMESPACES, true]],
    );
    assert.deepEqual(profiles[0]?.languages, ['python', 'shell']);
    assert.deepEqual([load?.capacity, load?.draining], [16, false]);
  });

  describe('have files', () => {
    let sandboxId = '';
    before(async () => {
      sandboxId = (await create('files')).sandbox?.sandboxId ?? '';
    });
    after(() => remove({ name: 'files' }));

    /** Sends these requests, and resolves to the size that was written. */
    const write = (requests: readonly WriteFileRequest['request'][]): Promise<bigint> =>
      new Promise((resolve, reject) => {
        const stream = rig.files.writeFile(alice, (error, value) =>
          error ? reject(error) : resolve(value.size),
        );
        for (const one of requests) stream.write({ request: one });
        stream.end();
      });
    const to = (path: string, mode = 0): WriteFileRequest['request'] => ({
      $case: 'start',
      value: { sandboxId, path, mode },
    });
    const data = (content: Buffer | string): WriteFileRequest['request'] => ({
      $case: 'data',
      value: Buffer.from(content),
    });
    const read = async (path: string, offset = 0n, length = 0n): Promise<Buffer> => {
      const parts: Buffer[] = [];
      const stream = rig.files.readFile({ sandboxId, path, offset, length }, alice);
      for await (const part of stream as AsyncIterable<{ data: Buffer }>) parts.push(part.data);
      return Buffer.concat(parts);
    };
    const names = async () =>
      (await call(rig.files, 'listFiles', { sandboxId, path: '', depth: 2 }, alice)).files.map(
        ({ path }) => path,
      );

    test('that are written, seen by programs, read, listed and removed', async () => {
      const content = Buffer.alloc(2 * MIB, 'abc');
      const pieces = [content.subarray(0, MIB), content.subarray(MIB)];
      assert.equal(await write([to('d/f', 0o600), ...pieces.map(data)]), BigInt(content.length));
      const seen = await run(python('print(len(open("d/f").read()))', inside(sandboxId)));
      assert.equal(seen.stdout.toString(), `${content.length}\n`);
      assert.ok((await read('d/f')).equals(content));
      assert.equal((await read('/workspace/d/f', 3n, 4n)).toString(), 'abca');
      assert.equal((await read('d/f', BigInt(content.length))).length, 0);
      const { file } = await call(rig.files, 'statFile', { sandboxId, path: 'd/f' }, alice);
      assert.deepEqual(
        [file?.type, file?.size, file?.mode],
        [FileType.FILE, BigInt(content.length), 0o600],
      );
      assert.deepEqual(await names(), ['/workspace/d', '/workspace/d/f']);
      const removing = (recursive: boolean) =>
        call(rig.files, 'removeFile', { sandboxId, path: 'd', recursive }, alice);
      assert.equal(await codeOf(removing(false)), 'FILE_REFUSED');
      assert.equal(await codeOf(removing(true)), 'none');
      assert.deepEqual(await names(), []);
    });

    test('where what is not there, or is no file, says so', async () => {
      await run(
        python(
          'import os; os.symlink("/etc/passwd", "link"); os.mkfifo("pipe"); os.mkdir("dir")',
          inside(sandboxId),
        ),
      );
      for (const [path, code] of [
        ['none', 'FILE_NOT_FOUND'],
        ['link', 'FILE_REFUSED'],
        ['pipe', 'FILE_REFUSED'],
        ['dir', 'FILE_REFUSED'],
        ['/etc/shadow', 'FILE_NOT_FOUND'],
      ] as const)
        assert.equal(await codeOf(read(path)), code, path);
      await run(
        python(
          'import os; os.unlink("link"); os.unlink("pipe"); os.rmdir("dir")',
          inside(sandboxId),
        ),
      );
    });

    test('with times that no calendar has', async () => {
      await run(python('import os; open("t", "w"); os.utime("t", (0, 2**50))', inside(sandboxId)));
      assert.deepEqual(await names(), ['/workspace/t']);
      await run(python('import os; os.unlink("t")', inside(sandboxId)));
    });

    test('of which nothing is left where the content breaks off, is wrong, or does not fit', async () => {
      assert.equal(await codeOf(write([to('a'), data('x'), to('b')])), 'INVALID_REQUEST');
      assert.equal(await codeOf(write([data('x')])), 'INVALID_REQUEST');
      const piece = data(Buffer.alloc(MIB));
      assert.equal(
        await codeOf(write([to('big'), ...Array.from({ length: 24 }, () => piece)])),
        'FILE_REFUSED',
      );
      const cancelled = rig.files.writeFile(alice, () => {});
      cancelled.on('error', () => {});
      cancelled.write({ request: to('c') });
      cancelled.write({ request: data('x') });
      await sleep(100);
      cancelled.cancel();
      await sleep(100);
      assert.deepEqual(await names(), []);
      assert.equal((await run(python('print(1)', inside(sandboxId)))).stdout.toString(), '1\n');
    });
  });
});

describe('what this version does not do says so', () => {
  const first = async (stream: AsyncIterable<unknown>) => {
    for await (const _ of stream) return;
  };
  const calls: readonly (readonly [string, () => Promise<unknown>])[] = [
    [
      'ResumeExec',
      () =>
        first(
          rig.execs.resumeExec(
            { execId: 'x', stdoutOffset: 0n, stderrOffset: 0n, terminalOffset: 0n, resultIndex: 0 },
            alice,
          ),
        ),
    ],
    ['ReadArtefact', () => first(rig.execs.readArtefact({ execId: 'x', path: 'a' }, alice))],
    ['WatchEvents', () => first(rig.execs.watchEvents({ sandboxId: '' }, alice))],
    ['WatchRevocations', () => first(rig.revocations.watchRevocations({}, alice))],
    ['idempotency_key', () => run(python('', { idempotencyKey: 'k' }))],
    ['terminal', () => run(python('', { terminal: { rows: 1, columns: 1, term: '' } }))],
  ];
  for (const [name, attempt] of calls)
    test(name, async () => {
      assert.equal(await codeOf(attempt()), 'UNIMPLEMENTED');
    });
});

test('a draining runner says so, takes nothing new, lets a program end, and leaves nothing', async () => {
  const health = (service: string) => call(rig.health, 'check', { service }, alice);
  assert.equal((await health('outrider.runner.v1.ExecService')).status, Serving.SERVING);
  assert.equal(await rig.admin('/readyz'), 200);
  const stream = open(
    python('import sys\nprint("up", flush=True)\nsys.stdin.read()\nprint("done")', {
      openStdin: true,
    }),
  );
  const stuck = open(python(FOREVER), bob);
  const started = await startOf(stream);
  await startOf(stuck);
  await stream.next();
  const exit = new Promise<number | null>((resolve) => rig.runner?.once('exit', resolve));
  rig.runner?.kill('SIGTERM');
  while ((await health('')).status === Serving.SERVING) await sleep(10);
  assert.equal((await health('')).status, Serving.NOT_SERVING);
  assert.equal(await codeOf(run(python(''))), 'DRAINING');
  stream.halfClose();
  const rest = await stream.rest();
  assert.equal(textOf(rest, 'stdout'), 'done\n');
  assert.equal(endOf(rest)?.killedBy, KilledBy.EXIT);
  const end = endOf(await stuck.rest());
  assert.deepEqual([end?.killedBy, end?.errorCode], [KilledBy.RUNNER, 'DRAINING']);
  assert.equal(await exit, 0);
  assert.ok(rig.isGone(started.sandboxId, started.attestation?.hostUid ?? 0));
  assert.deepEqual(rig.log.match(/eyJ[\w-]+\.|Unhandled|"INTERNAL"/g), null);
});
