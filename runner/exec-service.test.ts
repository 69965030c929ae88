import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { packageRoot } from '#core/package-root';
import {
  type ExecRequest,
  ExecSpec,
  IsolationTier,
  KilledBy,
  OutputOverflow,
  SandboxSpec,
  type WatchEventsResponse,
} from '#proto';
import { call, codeOf, type ExecStream, python } from './test-rig.ts';
import {
  endOf,
  FOREVER,
  inside,
  MIB,
  serviceRig,
  session,
  startOf,
  textOf,
  until,
} from './testing.ts';

/** Whoever starts a program by the SDK and reads what it writes. */
const CLIENT = `import { connect } from '#sdk';
const [address, token, code] = process.argv.slice(1);
const { events } = connect({ address, token }).start(code);
for await (const event of events) if (event.stream === 'stdout') process.stdout.write(event.data);`;

const service = serviceRig();
const { run, open } = service;

describe('D1: Run', () => {
  test('answers with output, end, and what held the program', async () => {
    const metadata = service.alice.clone();
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
    const record = service.rig.audit().find((one) => one['requestId'] === 'my-request');
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

  test('D3: answers within 3 MiB, whatever the role allows, and names what it leaves out', async () => {
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
      python('import os\nif os.fork() == 0:\n  import time; time.sleep(600)'),
    );
    await until(() =>
      service.rig.isGone(started?.sandboxId ?? '', started?.attestation?.hostUid ?? 0),
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
    ['too much time', python('', { timeout: { seconds: 301n, nanos: 0 } }), 'INVALID_REQUEST'],
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
        service.rig.execs.run({ spec }, service.alice, (error, value) =>
          error ? reject(error) : resolve(value),
        );
      });
      assert.equal(await codeOf(answer), code);
    });
});

describe('D1: Exec', () => {
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

  test('a first request that is no start is refused', async () => {
    const wrong = service.rig.execs.exec(service.alice);
    wrong.on('error', () => {});
    const failed = (async () => {
      for await (const _ of wrong);
    })();
    wrong.write({ request: { $case: 'closeStdin', value: {} } });
    assert.equal(await codeOf(failed), 'INVALID_REQUEST');
  });

  const untaken: readonly (readonly [
    string,
    NonNullable<ExecRequest['request']>,
    string,
    RegExp,
  ])[] = [
    ['a second start', { $case: 'start', value: python('') }, 'INVALID_REQUEST', /not start/],
    [
      'a terminal of another size',
      { $case: 'resize', value: { rows: 1, columns: 1, term: '' } },
      'UNIMPLEMENTED',
      /resize is not implemented/,
    ],
    ...[-1, 0, 11, 64].map(
      (signal) =>
        [
          `the signal ${signal}`,
          { $case: 'signal', value: signal },
          'INVALID_REQUEST',
          /1, 2, 3, 9, 10, 12, 15, 18, 19, 28/,
        ] as const,
    ),
  ];
  for (const [what, request, code, says] of untaken)
    test(`${code}: ${what}, once the program runs, ends it and says so`, async () => {
      const stream = open(python(FOREVER));
      await startOf(stream);
      await stream.next();
      stream.send(request);
      const end = endOf(await stream.rest());
      assert.deepEqual([end?.killedBy, end?.errorCode], [KilledBy.DISCONNECT, code]);
      assert.match(end?.detail ?? '', says);
    });

  for (const [what, leave] of [
    ['cancelling', (stream: ExecStream) => stream.cancel()],
    ['its deadline', () => {}],
  ] as const)
    test(`D2: ${what} ends the program, and nothing is left of the sandbox`, async () => {
      const options = what === 'its deadline' ? { deadline: Date.now() + 6_000 } : {};
      const stream = open(
        python(`import signal\nsignal.signal(15, signal.SIG_IGN)\n${FOREVER}`),
        service.alice,
        options,
      );
      const started = await startOf(stream);
      await stream.next();
      assert.equal(service.rig.isGone(started.sandboxId, started.attestation?.hostUid ?? 0), false);
      leave(stream);
      const wanted = what === 'its deadline' ? status.DEADLINE_EXCEEDED : status.CANCELLED;
      await assert.rejects(stream.rest(), { code: wanted });
      await until(() => service.rig.isGone(started.sandboxId, started.attestation?.hostUid ?? 0));
      const { end } = await call(
        service.rig.execs,
        'getExec',
        { execId: started.execId },
        service.alice,
      );
      const reason = what === 'its deadline' ? KilledBy.TIMEOUT : KilledBy.DISCONNECT;
      assert.equal(end?.killedBy, reason);
    });

  test('D2: the program of a client that was killed is ended, and its sandbox is gone within 2 s', async () => {
    const watching = service.rig.execs.watchEvents({ sandboxId: '' }, service.alice);
    watching.on('error', () => {}); // it is cancelled below
    const events: AsyncIterator<WatchEventsResponse> = watching[Symbol.asyncIterator]();
    await events.next(); // it has begun
    const address = `unix:${join(service.rig.runtime, 'runner.sock')}`;
    const token = String(service.alice.get('authorization')[0]).replace('Bearer ', '');
    const argv = ['--conditions=outrider-source', '--input-type=module', '-e', CLIENT];
    const client = spawn(process.execPath, [...argv, address, token, FOREVER], {
      cwd: packageRoot,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(client.stdout, 'data');
    await events.next(); // the sandbox
    const { value }: { value: WatchEventsResponse } = await events.next();
    assert.ok(value.event?.$case === 'execStarted');
    const { sandboxId, attestation } = value.event.value;
    assert.equal(service.rig.isGone(sandboxId, attestation?.hostUid ?? 0), false);
    client.kill('SIGKILL');
    await until(() => service.rig.isGone(sandboxId, attestation?.hostUid ?? 0));
    watching.cancel();
  });

  test('a program that is silent is told to be alive at least every 15 s', async () => {
    const stream = open(python('import sys; sys.stdin.read()', { openStdin: true }));
    await startOf(stream);
    const from = performance.now();
    assert.equal((await stream.next())?.$case, 'keepAlive');
    assert.ok(performance.now() - from < 60_000); // 10 s, and what a busy machine takes
    stream.halfClose();
    assert.equal(endOf(await stream.rest())?.killedBy, KilledBy.EXIT);
  });

  test('D3: a request that is too large is refused, and the connection goes on', async () => {
    const content = Buffer.alloc(9 * MIB);
    const large = run(python('', { files: [{ path: 'f', content, mode: 0 }] }));
    await assert.rejects(large, { code: status.RESOURCE_EXHAUSTED });
    const fits = [{ path: 'f', content: content.subarray(0, 6 * MIB), mode: 0 }];
    const code = 'import os; print(os.path.getsize("f"))';
    assert.equal((await run(python(code, { files: fits }))).stdout.toString(), `${6 * MIB}\n`);
  });

  test('CancelExec ends it; cancelling again, or what has ended, changes nothing', async () => {
    const stream = open(python(FOREVER));
    const { execId } = await startOf(stream);
    const running = await call(service.rig.execs, 'getExec', { execId }, service.alice);
    assert.equal(running.end, undefined);
    await call(service.rig.execs, 'cancelExec', { execId, cancelKey: '' }, service.alice);
    const end = endOf(await stream.rest());
    assert.deepEqual([end?.killedBy, end?.errorCode], [KilledBy.DISCONNECT, 'CANCELLED']);
    await call(service.rig.execs, 'cancelExec', { execId, cancelKey: '' }, service.alice);
    const { end: remembered } = await call(service.rig.execs, 'getExec', { execId }, service.alice);
    assert.equal(remembered?.killedBy, KilledBy.DISCONNECT);
  });

  test('CancelExec ends what the caller runs under a key, whichever call it is, and nobody else’s', async () => {
    const cancel = (who: typeof service.alice, execId: string, cancelKey: string) =>
      call(service.rig.execs, 'cancelExec', { execId, cancelKey }, who);
    const waits = run(python(FOREVER, { cancelKey: 'k' }));
    const streams = ['k', 'other'].map((cancelKey) => open(python(FOREVER, { cancelKey })));
    const bobs = open(python(FOREVER, { cancelKey: 'k' }), service.bob);
    await Promise.all([...streams, bobs].map(startOf));
    await cancel(service.alice, '', 'nothing runs under it');
    await cancel(service.alice, '', 'k');
    const [streamed, other] = streams;
    assert.ok(streamed && other);
    assert.equal(endOf(await streamed.rest())?.killedBy, KilledBy.DISCONNECT);
    assert.equal((await waits).end?.killedBy, KilledBy.DISCONNECT);
    // The others run on: what ends them is their own key.
    await cancel(service.alice, '', 'other');
    assert.equal(endOf(await other.rest())?.killedBy, KilledBy.DISCONNECT);
    await cancel(service.bob, '', 'k');
    assert.equal(endOf(await bobs.rest())?.killedBy, KilledBy.DISCONNECT);
    for (const [execId, key] of [
      ['', ''],
      ['exec-x', 'k'],
    ] as const)
      assert.equal(await codeOf(cancel(service.alice, execId, key)), 'INVALID_REQUEST');
    const long = run(python('', { cancelKey: 'k'.repeat(129) }));
    assert.equal(await codeOf(long), 'INVALID_REQUEST');
  });

  test('D3: 100 MB to a slow reader do not grow the runner by 64 MiB, and all of it arrives', async () => {
    const stream = open(
      python('import sys\npiece = "x" * 1_000_000\nfor _ in range(100): sys.stdout.write(piece)', {
        output: { bytes: BigInt(150 * MIB), overflow: OutputOverflow.TRUNCATE },
      }),
    );
    await startOf(stream);
    const from = service.rig.rss(service.rig.runner);
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
        most = Math.max(most, service.rig.rss(service.rig.runner));
      }
    }
    assert.equal(bytes, 100_000_000);
    assert.ok(most - from < 64 * MIB, `grew by ${Math.round((most - from) / MIB)} MiB`);
  });
});

describe('C6: what a program leaves in /output', () => {
  const read = async (execId: string, path: string, who = service.alice): Promise<Buffer> => {
    const parts: Buffer[] = [];
    const stream = service.rig.execs.readArtefact({ execId, path }, who);
    for await (const part of stream as AsyncIterable<{ data: Buffer }>) parts.push(part.data);
    return Buffer.concat(parts);
  };

  test('is read whole after its sandbox has gone, by its owner alone', async () => {
    const content = Buffer.alloc(3 * MIB, 'abcdefg');
    const code = `import os
os.mkdir("/output/d")
open("/output/d/large", "wb").write((b"abcdefg" * 500_000)[:${3 * MIB}])
open("/output/small", "w").write("s")`;
    const { started, end } = await run(python(code));
    const { execId = '', sandboxId = '', attestation } = started ?? {};
    await until(() => service.rig.isGone(sandboxId, attestation?.hostUid ?? 0));
    assert.deepEqual(
      end?.artefacts.map(({ path, size, content: inline }) => [path, Number(size), inline.length]),
      [
        ['d/large', content.length, 0],
        ['small', 1, 1],
      ],
    );
    assert.ok((await read(execId, 'd/large')).equals(content));
    assert.equal((await read(execId, 'small')).toString(), 's');
    assert.equal(await codeOf(read(execId, 'none')), 'FILE_NOT_FOUND');
    assert.equal(await codeOf(read(execId, '../small')), 'FILE_NOT_FOUND');
    assert.equal(await codeOf(read(execId, 'small', service.bob)), 'EXEC_NOT_FOUND');
    assert.equal(await codeOf(read('exec-none', 'small')), 'EXEC_NOT_FOUND');
  });
});

describe('labels and purpose', () => {
  test('are shown by GetExec, and the purpose stands in the audit', async () => {
    const labels = { team: 'data', ticket: 'A-1' };
    const { started, end } = await run(python('', { labels, purpose: 'a tool' }));
    const { execId = '' } = started ?? {};
    const shown = await call(service.rig.execs, 'getExec', { execId }, service.alice);
    assert.deepEqual({ ...shown.labels }, labels);
    const record = () => service.rig.audit().find((one) => one['execId'] === execId);
    await until(() => record() !== undefined);
    assert.equal(record()?.['purpose'], 'a tool');
    const queued = end?.usage?.queued;
    assert.ok(queued && (queued.seconds > 0n || queued.nanos > 0), 'how long it waited is told');
  });

  const refused: readonly (readonly [string, Partial<ExecSpec>])[] = [
    [
      '17 labels',
      { labels: Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`l${n}`, ''])) },
    ],
    ['a label without a name', { labels: { '': 'x' } }],
    ['a name of 64 characters', { labels: { ['n'.repeat(64)]: '' } }],
    ['a value of 257 characters', { labels: { n: 'v'.repeat(257) } }],
    ['a line break in a value', { labels: { n: 'a\nb' } }],
    ['a purpose of 257 characters', { purpose: 'p'.repeat(257) }],
  ];
  for (const [what, over] of refused)
    test(`${what}: refused`, async () => {
      assert.equal(await codeOf(run(python('', over))), 'INVALID_REQUEST');
    });

  test('16 labels, a name of 63 and a value of 256 characters are taken', async () => {
    const many = Array.from({ length: 15 }, (_, n) => [`l${n}`, ''] as const);
    const labels = Object.fromEntries([...many, ['n'.repeat(63), 'v'.repeat(256)]]);
    assert.equal(await codeOf(run(python('', { labels, purpose: 'p'.repeat(256) }))), 'none');
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
          service.rig.execs.resumeExec(
            { execId: 'x', stdoutOffset: 0n, stderrOffset: 0n, terminalOffset: 0n, resultIndex: 0 },
            service.alice,
          ),
        ),
    ],
    ['terminal', () => run(python('', { terminal: { rows: 1, columns: 1, term: '' } }))],
    ['context_id', () => run(python('', { contextId: 'c' }))],
    ['detach_grace', () => run(python('', { detachGrace: { seconds: 1n, nanos: 0 } }))],
    [
      'checkpoint_id',
      () =>
        run(
          python('', {
            target: { $case: 'fresh', value: SandboxSpec.fromPartial({ checkpointId: 'c' }) },
          }),
        ),
    ],
  ];
  for (const [name, attempt] of calls)
    test(name, async () => {
      assert.equal(await codeOf(attempt()), 'UNIMPLEMENTED');
    });
});
