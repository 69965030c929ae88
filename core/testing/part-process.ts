import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { packageRoot } from '../package-root.ts';
import type { Env } from '../run-part.ts';

/** For tests alone. The `main.ts` of a folder as a process of its own, and all that it writes; gone with the test. */
export function runPartProcess(
  t: Pick<TestContext, 'after'>,
  folder: string,
  options: readonly string[],
  env: Env,
) {
  const script = `import { main } from './${folder}/main.ts'; process.exitCode = await main(process.argv.slice(1), process.env);`;
  const child = spawn(
    process.execPath,
    ['--conditions=outrider-source', '--input-type=module', '-e', script, '--', ...options],
    { cwd: packageRoot, env: { ...env } },
  );
  t.after(() => child.kill('SIGKILL'));
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (output.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output.stderr += chunk.toString()));
  return {
    child,
    output,
    /** Waits for a line of its log. */
    logged: async (pattern: RegExp): Promise<RegExpExecArray> => {
      for (;;) {
        const found = pattern.exec(output.stderr);
        if (found) return found;
        await once(child.stderr, 'data');
      }
    },
  };
}

type PartProcess = ReturnType<typeof runPartProcess>;

/** It starts on a free port of loopback, is alive there, ends with 0 at the signal, and says nothing on stdout. */
export async function assertRunsInOrder(
  { child, output, logged }: PartProcess,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<void> {
  const [, port = ''] = await logged(/"address":"127\.0\.0\.1:(\d+)"/);
  assert.equal((await fetch(`http://127.0.0.1:${port}/livez`)).status, 200);
  child.kill(signal);
  const [code] = await once(child, 'close');
  assert.equal(code, 0, output.stderr);
  assert.equal(output.stdout, '');
}

/** It ends with exit code 1 and this line on stderr, and says nothing on stdout. */
export async function assertCannotRun({ child, output }: PartProcess, line: RegExp): Promise<void> {
  const [code] = await once(child, 'close');
  assert.equal(code, 1, child.spawnargs.join(' '));
  assert.match(output.stderr, line);
  assert.equal(output.stdout, '');
}
