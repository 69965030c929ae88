import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OutriderError } from '#core/errors';
import { KilledBy, RunResponse } from '#proto';
import { execResultSchema, toolError, toolResult } from './exec-result.ts';

const CASES: readonly (readonly [string, RunResponse, readonly string[], boolean])[] = [
  [
    'output and exit 0 is that output',
    RunResponse.fromPartial({
      stdout: Buffer.from('42\n'),
      end: { killedBy: KilledBy.EXIT, exitCode: 0 },
    }),
    ['42\n'],
    false,
  ],
  [
    'no output is said, since an empty text is refused by some models',
    RunResponse.fromPartial({ end: { killedBy: KilledBy.EXIT, exitCode: 0 } }),
    ['[no output]'],
    false,
  ],
  [
    'warnings are kept apart from the output',
    RunResponse.fromPartial({
      stdout: Buffer.from('1'),
      stderr: Buffer.from('careful'),
      end: { killedBy: KilledBy.EXIT, exitCode: 0 },
    }),
    ['1', '[stderr]\ncareful'],
    false,
  ],
  [
    'an exit code other than 0 is an error',
    RunResponse.fromPartial({ end: { killedBy: KilledBy.EXIT, exitCode: 3 } }),
    ['[exit code 3]'],
    true,
  ],
  [
    'a limit says which',
    RunResponse.fromPartial({
      end: { killedBy: KilledBy.OOM, detail: 'memory limit of 512 MiB reached' },
    }),
    ['[ended by oom: memory limit of 512 MiB reached]'],
    true,
  ],
  [
    'a signal says which',
    RunResponse.fromPartial({ end: { killedBy: KilledBy.SIGNAL, signal: 'SIGSEGV' } }),
    ['[ended by signal SIGSEGV]'],
    true,
  ],
  [
    'an answer without an end is not a success',
    RunResponse.fromPartial({}),
    ['[ended by runner]'],
    true,
  ],
];

for (const [fact, given, texts, isError] of CASES)
  test(fact, () => {
    const result = toolResult(given);
    assert.deepEqual(
      result.content,
      texts.map((text) => ({ type: 'text', text })),
    );
    assert.equal(result.isError ?? false, isError);
    assert.equal(execResultSchema.safeParse(result.structuredContent).success, true);
  });

test('the structured answer has every fact, in plain numbers', () => {
  const result = toolResult(
    RunResponse.fromPartial({
      started: { execId: 'exec-7', role: 'analyst', session: 's1' },
      stdout: Buffer.from('a\xff', 'latin1'),
      end: {
        killedBy: KilledBy.TIMEOUT,
        usage: { wall: { seconds: 2n, nanos: 250_000_000 } },
        stdout: { captured: 1n, total: 11n, dropped: 10n },
        stderr: { captured: 0n, total: 3n, dropped: 3n },
        exception: { type: 'KeyError', message: "'x'", traceback: 'Traceback ...' },
        artefacts: [
          { path: 'a/b c.csv', size: 7n, sha256: '00' },
          { path: 'huge', size: 9n },
        ],
        egress: { allowed: 4n, denied: 1n },
      },
    }),
  );
  assert.deepEqual(result.structuredContent, {
    stdout: 'a\ufffd',
    stderr: '',
    exit_code: null,
    killed_by: 'timeout',
    duration_ms: 2_250,
    files: [
      { path: 'a/b c.csv', size: 7, uri: 'outrider://artefacts/exec-7/a/b%20c.csv' },
      { path: 'huge', size: 9 },
    ],
    session_id: 's1',
    stdout_dropped: 10,
    stderr_dropped: 3,
    exception: { type: 'KeyError', message: "'x'", traceback: 'Traceback ...' },
    egress: { allowed: 4, denied: 1 },
  });
  assert.deepEqual(
    result.content.filter(({ type }) => type === 'resource_link'),
    [
      {
        type: 'resource_link',
        uri: 'outrider://artefacts/exec-7/a/b%20c.csv',
        name: 'a/b c.csv',
        size: 7,
      },
    ],
    'of what was kept',
  );
  const { _meta: meta } = result;
  assert.deepEqual(meta, { 'outrider/exec': { id: 'exec-7', role: 'analyst' } });
});

test('an error of the mesh shows its code and public message, never its cause', () => {
  const error = new OutriderError('ROLE_DENIED', 'no role names you', { cause: 'private' });
  const result = toolError(error);
  assert.equal(result.isError, true);
  assert.ok(!JSON.stringify(result).includes('private'));
  const { _meta: meta } = result;
  assert.deepEqual(meta, {
    'outrider/error': { code: 'ROLE_DENIED', message: 'no role names you' },
  });
});
