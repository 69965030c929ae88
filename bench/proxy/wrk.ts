import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface WrkOptions {
  /** Of 127.0.0.1. */
  readonly port: number;
  /** Origin form, or absolute form for a proxy. */
  readonly target: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly connections: number;
  readonly seconds: number;
}

export interface WrkResult {
  readonly requests: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** The core on which client and upstream run; the proxy has the other to itself. */
export const CLIENT_CORE = 0;
export const PROXY_CORE = 1;

/** One run of wrk on its core. @throws {Error} where wrk is not installed, or an answer is no 2xx or 3xx */
export async function wrk(options: WrkOptions): Promise<WrkResult> {
  const { port, target, headers = {}, connections, seconds } = options;
  const directory = mkdtempSync(join(tmpdir(), 'o-wrk-'));
  const script = join(directory, 'request.lua');
  const lines = Object.entries(headers).map(
    ([name, value]) => `wrk.headers["${name}"] = "${value}"`,
  );
  writeFileSync(script, `wrk.path = "${target}"\n${lines.join('\n')}\n`);
  try {
    const argv = [
      '-t',
      '1',
      '-c',
      `${connections}`,
      '-d',
      `${seconds}s`,
      '--latency',
      '-s',
      script,
    ];
    const { stdout } = await run('taskset', [
      '-c',
      `${CLIENT_CORE}`,
      'wrk',
      ...argv,
      `http://127.0.0.1:${port}`,
    ]);
    if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(`wrk had errors:\n${stdout}`);
    return {
      requests: Number(/(\d+) requests in/.exec(stdout)?.[1]),
      p50Ms: latency(stdout, 50),
      p99Ms: latency(stdout, 99),
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const run = promisify(execFile);
const UNITS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1_000 };

function latency(text: string, percent: number): number {
  const [, value, unit = ''] =
    new RegExp(`^ +${percent}% +([\\d.]+)(us|ms|s)`, 'm').exec(text) ?? [];
  return Number(value) * (UNITS[unit] ?? Number.NaN);
}
