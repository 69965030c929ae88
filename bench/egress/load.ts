import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import { cpuUs, run } from './processes.ts';

/** What one run of a client saw. */
export interface Load {
  readonly requests: number;
  /** Requests that were not answered 2xx or 3xx, or not at all. */
  readonly failed: number;
}

export interface WrkOptions {
  readonly directory: string;
  readonly connections: number;
  readonly seconds: number;
  /** As the client connects. */
  readonly url: string;
  /** As the request line has it, where that differs. */
  readonly target?: string;
  readonly host?: string;
  /** A command before it. */
  readonly within?: readonly string[];
}

/** Keep-alive GETs as fast as they are answered, from one thread of wrk. */
export async function wrk(options: WrkOptions): Promise<Load> {
  const { directory, connections, seconds, url, target, host, within = [] } = options;
  const script = join(directory, 'wrk.lua');
  const lines = [
    ...(target === undefined ? [] : [`wrk.path = "${target}"`]),
    ...(host === undefined ? [] : [`wrk.headers["Host"] = "${host}"`]),
    'done = function(s, l, r)',
    '  local e = s.errors',
    '  print("TOTAL " .. s.requests .. " " .. (e.connect + e.read + e.write + e.status + e.timeout))',
    'end',
  ];
  writeFileSync(script, lines.join('\n'));
  const size = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '20s'];
  const said = await run([...within, 'wrk', ...size, '-s', script, url]);
  const [, requests, failed] = /^TOTAL (\d+) (\d+)$/m.exec(said) ?? [];
  if (requests === undefined) throw new OutriderError('INTERNAL', `wrk said no total: ${said}`);
  return { requests: Number(requests), failed: Number(failed) };
}

/**
 * Processor time of a process for each request of a load. A machine that has much else to do may not let a client come to one answer in its time: then it is
 * asked again.
 * @throws {OutriderError} INTERNAL where a request failed, or none was answered three times: then it is not what was to be measured
 */
export async function cpuPerRequest(
  pid: number,
  name: string,
  load: () => Promise<Load>,
  tries = 3,
): Promise<{ us: number; requests: number }> {
  const before = cpuUs(pid);
  const { requests, failed } = await load();
  const used = cpuUs(pid) - before;
  if (requests === 0 && failed === 0 && tries > 1) return cpuPerRequest(pid, name, load, tries - 1);
  if (failed > 0 || requests === 0)
    throw new OutriderError('INTERNAL', `${name}: ${failed} of ${requests} requests failed`);
  return { us: used / requests, requests };
}
