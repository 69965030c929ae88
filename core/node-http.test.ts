import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test from 'node:test';

/** Whether a process has Node's own client loaded once it has run this. */
function loadsClient(code: string): boolean {
  const asks = `process.stdout.write(String(process.moduleLoadList.some((name) => name.includes('deps/undici'))))`;
  const argv = ['--conditions=outrider-source', '--input-type=module', '-e', `${code};${asks}`];
  const url = new URL('.', import.meta.url);
  return execFileSync(process.execPath, argv, { cwd: url, encoding: 'utf8' }) === 'true';
}

test('a process that serves HTTP does not load the client that it has no use for', () => {
  assert.equal(loadsClient(`await import('./node-http.ts')`), false);
  assert.equal(loadsClient(`await import('./http.ts')`), false);
});

test('and an import of node:http would', () => {
  assert.equal(loadsClient(`await import('node:http')`), true);
});
