import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test from 'node:test';

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
  const argv = [
    '--conditions=outrider-source',
    '--allow-natives-syntax',
    '--input-type=module',
    '-e',
    code,
  ];
  const cwd = new URL('.', import.meta.url);
  const said = execFileSync(process.execPath, argv, { cwd, encoding: 'utf8' });
  assert.deepEqual(JSON.parse(said), [false, true]);
});
