import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  ExecEnd,
  ExecSpec,
  type ExecSpec as ExecSpecMessage,
  IsolationTier,
  KilledBy,
  OutputOverflow,
  SandboxSpec,
  type SandboxSpec as SandboxSpecMessage,
} from '#proto';
import type { KilledBy as Cause, Ending } from './exec.ts';
import { endMessage, execAsk, sandboxAsk, sessionName, tierMessage } from './messages.ts';

const call = { requestId: 'req-1', signal: new AbortController().signal };
const spec = (over: Partial<ExecSpecMessage> = {}): ExecSpecMessage =>
  ExecSpec.fromPartial({
    program: { $case: 'source', value: { language: 'python', code: 'x' } },
    ...over,
  });

describe('what is sent becomes an ask', () => {
  test('with defaults for everything that is absent', () => {
    const ask = execAsk(spec(), call);
    assert.deepEqual(
      { ...ask, signal: undefined },
      {
        target: {
          kind: 'fresh',
          ask: {
            profile: '',
            backend: '',
            image: '',
            minimumTier: undefined,
            resources: { memoryBytes: 0, cpuMillis: 0, pids: 0, diskBytes: 0 },
          },
        },
        program: { kind: 'source', language: 'python', code: 'x', fileName: '', args: [] },
        role: '',
        env: {},
        cwd: '/workspace',
        files: [],
        timeoutMs: 0,
        outputBytes: 0,
        overflow: 'truncate',
        openStdin: false,
        labels: {},
        purpose: '',
        requestId: 'req-1',
        signal: undefined,
      },
    );
  });

  test('with everything that is said', () => {
    const ask = execAsk(
      spec({
        target: {
          $case: 'session',
          value: {
            name: 'a.b',
            create: SandboxSpec.fromPartial({ profile: 'p' }),
            mustExist: true,
          },
        },
        program: { $case: 'command', value: { argv: ['ls'] } },
        timeout: { seconds: 1n, nanos: 500_000_000 },
        output: { bytes: 7n, overflow: OutputOverflow.KILL },
        stdin: Buffer.from('x'),
        files: [{ path: 'd/a', content: Buffer.from('c'), mode: 0 }],
        workingDirectory: '/tmp',
      }),
      call,
    );
    assert.equal(ask.target.kind === 'session' && ask.target.name, 'a.b');
    assert.equal(ask.target.kind === 'session' && ask.target.mustExist, true);
    assert.deepEqual(ask.program, { kind: 'command', argv: ['ls'] });
    assert.deepEqual([ask.timeoutMs, ask.outputBytes, ask.overflow], [1_500, 7, 'kill']);
    assert.deepEqual([ask.openStdin, ask.cwd], [true, '/tmp']);
    assert.deepEqual(ask.files, [{ path: 'd/a', content: Buffer.from('c'), mode: 0o644 }]);
  });

  const refused: readonly (readonly [string, ExecSpecMessage | undefined, string])[] = [
    ['nothing', undefined, 'INVALID_REQUEST'],
    ['no program', spec({ program: undefined }), 'INVALID_REQUEST'],
    ['a directory that is not absolute', spec({ workingDirectory: 'tmp' }), 'INVALID_REQUEST'],
    ['a directory with a NUL', spec({ workingDirectory: '/a\0' }), 'INVALID_REQUEST'],
    ['a time-out of nothing', spec({ timeout: { seconds: 0n, nanos: 0 } }), 'INVALID_REQUEST'],
    ['a time-out below nothing', spec({ timeout: { seconds: -1n, nanos: 0 } }), 'INVALID_REQUEST'],
    ['a terminal', spec({ terminal: { rows: 1, columns: 1, term: '' } }), 'UNIMPLEMENTED'],
    ['a context', spec({ contextId: 'c' }), 'UNIMPLEMENTED'],
    ['a label without a name', spec({ labels: { '': 'x' } }), 'INVALID_REQUEST'],
    ['a grace', spec({ detachGrace: { seconds: 1n, nanos: 0 } }), 'UNIMPLEMENTED'],
    ...['', '/etc/passwd', '../a', 'a/../../b', 'a\0b'].map(
      (path) =>
        [
          `the file ${JSON.stringify(path)}`,
          spec({ files: [{ path, content: Buffer.alloc(0), mode: 0 }] }),
          'INVALID_REQUEST',
        ] as const,
    ),
  ];
  for (const [what, message, code] of refused)
    test(`${what} is ${code}`, () => {
      assert.throws(() => execAsk(message, call), { code });
    });
});

describe('a sandbox that is asked for', () => {
  test('has its bounds and its tier as ours', () => {
    const ask = sandboxAsk(
      SandboxSpec.fromPartial({
        minimumTier: IsolationTier.GVISOR,
        limits: { memoryBytes: 5n, pids: 3 },
      }),
    );
    assert.equal(ask.minimumTier, 'gvisor');
    assert.deepEqual(ask.resources, { memoryBytes: 5, cpuMillis: 0, pids: 3, diskBytes: 0 });
  });
  const refused: readonly (readonly [string, Partial<SandboxSpecMessage>, string])[] = [
    ['a checkpoint', { checkpointId: 'x' }, 'UNIMPLEMENTED'],
    ['dependencies', { dependencies: [{ manager: 'pip', requirement: './x' }] }, 'INVALID_REQUEST'],
    ['an idle time of nothing', { idleTimeout: { seconds: 0n, nanos: 0 } }, 'INVALID_REQUEST'],
    ['a life below nothing', { maxLifetime: { seconds: -1n, nanos: 0 } }, 'INVALID_REQUEST'],
  ];
  for (const [what, message, code] of refused)
    test(`${what} is ${code}`, () => {
      assert.throws(() => sandboxAsk({ ...SandboxSpec.fromPartial({}), ...message }), { code });
    });
});

test('a session name is 1 to 64 of a few characters', () => {
  for (const name of ['a', 'A.b_c-9', 'x'.repeat(64)]) assert.equal(sessionName(name), name);
  for (const name of ['', 'a b', 'a/b', '../a', 'é', 'x'.repeat(65), 'a\n'])
    assert.throws(() => sessionName(name), { code: 'INVALID_REQUEST' }, name);
});

const ending = (over: Partial<Ending> = {}): Ending => {
  const none = { captured: 0, total: 0, dropped: 0 };
  return {
    killedBy: 'exit',
    exitCode: 0,
    signal: '',
    wallMs: 1_234.5,
    cpuMs: 20,
    maxRssBytes: 4_096,
    stdout: { captured: 3, total: 5, dropped: 2 },
    stderr: none,
    exception: undefined,
    artefacts: [],
    egress: {
      allowed: 1,
      denied: 2,
      limited: 3,
      failed: 4,
      bytesOut: 5,
      bytesIn: 6,
      auditHead: undefined,
    },
    detail: '',
    errorCode: '',
    ...over,
  };
};

const QUEUED = { queuedMs: 0 };

describe('an end becomes a message', () => {
  test('that says everything, and survives the wire', () => {
    const message = endMessage(ending({ exitCode: 0 }), { queuedMs: 2.5 });
    const sent = ExecEnd.decode(ExecEnd.encode(message).finish());
    assert.equal(sent.killedBy, KilledBy.EXIT);
    assert.equal(sent.exitCode, 0, 'present, though it is zero');
    assert.deepEqual(sent.usage?.wall, { seconds: 1n, nanos: 234_500_000 });
    assert.deepEqual(sent.usage.queued, { seconds: 0n, nanos: 2_500_000 });
    assert.equal(sent.usage.maxRssBytes, 4_096n);
    assert.deepEqual(sent.stdout, { captured: 3n, total: 5n, dropped: 2n });
    assert.deepEqual(sent.egress, {
      allowed: 1n,
      denied: 2n,
      limited: 3n,
      failed: 4n,
      bytesOut: 5n,
      bytesIn: 6n,
    });
  });

  test('with no exit code where the program did not exit', () => {
    const message = endMessage(
      ending({ killedBy: 'signal', exitCode: undefined, signal: 'SIGSEGV' }),
      QUEUED,
    );
    const sent = ExecEnd.decode(ExecEnd.encode(message).finish());
    assert.equal(sent.exitCode, undefined);
    assert.equal(sent.signal, 'SIGSEGV');
  });

  test('every cause has its own number, and none is unspecified', () => {
    const causes = [
      'exit',
      'signal',
      'timeout',
      'oom',
      'pids',
      'disk',
      'output',
      'policy',
      'disconnect',
      'runner',
    ] satisfies Cause[];
    const numbers = causes.map((killedBy) => endMessage(ending({ killedBy }), QUEUED).killedBy);
    assert.equal(new Set(numbers).size, causes.length);
    assert.ok(!numbers.includes(KilledBy.UNSPECIFIED));
  });

  test('an artefact is as it was kept', () => {
    const artefacts = [
      { path: 'a', size: 3, sha256: 'ab', content: Buffer.from('abc') },
      { path: 'b', size: 9_999, sha256: '', content: Buffer.alloc(0) },
    ];
    const message = endMessage(ending({ artefacts }), QUEUED);
    assert.deepEqual(message.artefacts, [
      { ...artefacts[0], size: 3n },
      { ...artefacts[1], size: 9_999n },
    ]);
  });
});

test('every tier has a number of its own', () => {
  assert.deepEqual((['namespaces', 'container', 'gvisor'] as const).map(tierMessage), [
    IsolationTier.NAMESPACES,
    IsolationTier.CONTAINER,
    IsolationTier.GVISOR,
  ]);
});
