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
  assert.deepEqual(JSON.parse(run(code)), [false, true]);
});

test('once the compilers are released, what was called a hundred times is compiled; by default it takes four hundred calls', () => {
  const [released, byDefault] = [callsUntilCompiled(true), callsUntilCompiled(false)];
  assert.ok(released >= 100 && released < 400, `${released} calls`);
  assert.ok(byDefault >= 400, `${byDefault} calls`);
});

/** After how many calls, in steps of 25, a function is compiled; each step waits for the compiler, which has a thread of its own. */
function callsUntilCompiled(isReleased: boolean): number {
  const code = `
    import { releaseCompilers } from './heap.ts';
    ${isReleased ? 'releaseCompilers();' : ''}
    const count = (n) => (n % 7) + (n % 5) * (n % 3);
    const isCompiled = () => %ActiveTierIsMaglev(count) || %ActiveTierIsTurbofan(count);
    let calls = 0;
    const step = () => { for (let i = 0; i < 25; i++, calls++) count(i); };
    %NeverOptimizeFunction(step); // compiled, it would have the other within it
    while (!isCompiled() && calls < 4_000) {
      step();
      for (const from = performance.now(); performance.now() - from < 20; );
      await undefined;
    }
    process.stdout.write(String(calls));
  `;
  return Number(run(code));
}

function run(code: string): string {
  const argv = ['--conditions=outrider-source', '--allow-natives-syntax', '--input-type=module'];
  const cwd = new URL('.', import.meta.url);
  return execFileSync(process.execPath, [...argv, '-e', code], { cwd, encoding: 'utf8' });
}
