import { readdirSync, readFileSync } from 'node:fs';
import { quantile, rssMib } from './measure.ts';
import { startBuilt } from './mesh.ts';

const RUNS = 7;

/** From the command to the banner, after set-up, and what the idle mesh weighs. The first run fills the compile cache. */
export async function startPart(): Promise<Record<string, number>> {
  const ready: number[] = [];
  let rss = 0;
  for (let run = 0; run <= RUNS; run++) {
    const mesh = await startBuilt();
    if (run > 0) ready.push(mesh.readyMs);
    rss = idleRss(mesh.supervisor.pid ?? 0);
    await mesh.stop();
  }
  return {
    start_ready_p50_ms: quantile(ready, 0.5),
    start_ready_max_ms: Math.max(...ready),
    idle_rss_mib: rss,
  };
}

/** Of the supervisor and the parts it started; sandboxes are not its children. */
function idleRss(supervisor: number): number {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => readStatus(pid))
    .filter((status) => new RegExp(`^(Pid|PPid):\\s+${supervisor}$`, 'm').test(status));
  return children.reduce((sum, status) => sum + rssMib(status), 0);
}

function readStatus(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return ''; // it ended in between
  }
}
