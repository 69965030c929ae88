import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type RunnerMesh, startRunnerMesh } from '../../test/support/runner-mesh.ts';

/** A role of the local principal, by name, with the fields of its `sandbox`. */
export type Roles = Readonly<Record<string, string>>;

/** What one sandbox of a bench may use, where the bench is not about it. */
export const USUAL = 'timeout: 60s, memory: 256MiB, disk: 64MiB, concurrent: 64';

/**
 * Proxy, sidecar and runner from dist/, as `npm start` runs them.
 * @throws {Error} where a backend that is needed cannot isolate here; with what a person must do
 */
export async function benchMesh(
  roles: Roles,
  backends: readonly string[] = ['bubblewrap'],
  argv: readonly string[] = [],
  inspected = false,
): Promise<RunnerMesh> {
  const mesh = await startRunnerMesh({
    policies: Object.entries(roles).map(roleText).join('---\n'),
    argv: ['--capacity', '64', '--backends', backends.join(','), ...argv],
    built: true,
    inspected,
  });
  const { backends: found } = await mesh.client.capabilities();
  for (const name of backends) {
    const status = found.find((backend) => backend.name === name);
    if (status?.usable) continue;
    await mesh.stop();
    throw new Error(`${name} cannot be measured here: ${status?.reason ?? 'the runner has none'}`);
  }
  return mesh;
}

function roleText([name, sandbox]: [string, string]): string {
  return `
apiVersion: outrider/v1
kind: Role
metadata: {name: ${name}, owner: bench}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {${sandbox}}
`;
}

const CALM_MS = 60;
const CALM_WITHIN_MS = 3_000;
const QUIET_WITHIN_MS = 500;
const BUSY_SHARE_MAX = 0.15;

/** Waits until the pool is full again and the machine has nothing left to do from before; on a busy machine not for long. */
export async function calm(mesh: RunnerMesh): Promise<void> {
  const deadline = Date.now() + CALM_WITHIN_MS;
  let warm: unknown;
  for (let since = Date.now(); Date.now() - since < CALM_MS && Date.now() < deadline; ) {
    const { detail } = await mesh.ready();
    if (detail['warm'] !== warm || warm === 0) since = Date.now();
    warm = detail['warm'];
    await sleep(10);
  }
  const late = Date.now() + QUIET_WITHIN_MS;
  for (let before = cpuTimes(); Date.now() < late; ) {
    await sleep(30);
    const now = cpuTimes();
    const share = (now.busy - before.busy) / Math.max(1, now.all - before.all);
    if (share <= BUSY_SHARE_MAX) return;
    before = now;
  }
}

/** Of all processors together, in ticks since the boot. */
function cpuTimes(): { busy: number; all: number } {
  const [, ...ticks] = (/^cpu .*/m.exec(readFileSync('/proc/stat', 'utf8'))?.[0] ?? '').split(
    /\s+/,
  );
  const numbers = ticks.map(Number);
  const all = numbers.reduce((sum, one) => sum + one, 0);
  return { all, busy: all - (numbers[3] ?? 0) - (numbers[4] ?? 0) }; // idle and waiting for a disk
}
