import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** One test of a file that ran in a namespace of its own. */
export interface RanTest {
  readonly name: string;
  readonly ok: boolean;
  /** What the file said of it. */
  readonly said: string;
}

const CONDITION = '--conditions=outrider-source';

/**
 * Runs the tests of a file in a network namespace in which only loopback is up, and `addresses` are on it: there a host can have a public
 * address. Needs root and iproute2. Ends the file after `timeoutMs`; a file that ends badly is a failed test of its own.
 */
export async function runInNamespace(
  file: string,
  addresses: readonly string[],
  timeoutMs = 120_000,
): Promise<RanTest[]> {
  const up = ['ip link set lo up', ...addresses.map((one) => `ip address add ${one}/32 dev lo`)];
  const script = `${up.join(' && ')} && exec "$@"`;
  const node = [process.execPath, CONDITION, '--test-reporter=tap', file];
  const child = spawn('unshare', ['--net', 'sh', '-c', script, 'sh', ...node], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // It is no child of this runner, and says in words what came of it.
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  const [code]: unknown[] = await once(child, 'close');
  clearTimeout(timer);
  const ran = said.split(/^(?=(?:not )?ok \d+ - )/m).flatMap((text) => {
    const [, not, name] = /^(not )?ok \d+ - (.*)/.exec(text) ?? [];
    return name === undefined ? [] : [{ name, ok: not === undefined, said: text }];
  });
  const ended = ran.length > 0 && (code === 0 || ran.some(({ ok }) => !ok));
  return ended ? ran : [...ran, { name: `${file} ends`, ok: false, said }];
}
