import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import test from 'node:test';
import { COMPILING_SOONER, INLINING } from './heap.ts';

test('what every part uses of Node is loaded before V8 is told anything, while what it has compiled in advance is of use', () => {
  const code = `
    import { holdHeap } from './heap.ts';
    holdHeap();
    const before = process.moduleLoadList.length;
    for (const name of ['child_process', 'cluster', 'crypto', 'dns', 'http', 'http2', 'net', 'perf_hooks', 'tls', 'worker_threads', 'zlib'])
      process.getBuiltinModule('node:' + name);
    process.stdout.write(String(process.moduleLoadList.length - before));
  `;
  assert.equal(run(code), '0');
});

test('nothing is optimised while the compilers are held, and what runs often is once they are released', () => {
  const code = `
    import { holdCompilers, releaseCompilers } from './heap.ts';
    const sum = (n) => { let all = 0; for (let i = 0; i < n; i++) all += i % 7; return all; };
    const isOptimised = () => {
      for (let i = 0; i < 2_000; i++) sum(1_000);
      return %ActiveTierIsMaglev(sum) || %ActiveTierIsTurbofan(sum);
    };
    const within = (ms) => {
      for (const from = performance.now(); performance.now() - from < ms; ) if (isOptimised()) return true;
      return false;
    };
    holdCompilers();
    const held = within(200);
    releaseCompilers();
    process.stdout.write(JSON.stringify([held, within(10_000)]));
  `;
  assert.deepEqual(JSON.parse(run(code, '--allow-natives-syntax')), [false, true]);
});

test('this Node has the options of compiling by these names; control: another is none', () => {
  for (const option of [...INLINING, ...COMPILING_SOONER])
    assert.equal(spawnSync(process.execPath, [option, '-e', '']).status, 0, option);
  const [first = ''] = INLINING;
  assert.notEqual(spawnSync(process.execPath, [`${first.split('=')[0]}s=1`, '-e', '']).status, 0);
});

function run(code: string, ...options: readonly string[]): string {
  const argv = ['--conditions=outrider-source', ...options, '--input-type=module', '-e', code];
  return execFileSync(process.execPath, argv, {
    cwd: new URL('.', import.meta.url),
    encoding: 'utf8',
  });
}
