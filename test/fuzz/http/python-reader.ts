import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type After, type Reader, type Reading, type Seen, urlText } from './reading.ts';

/** What reader.py says. */
interface Said {
  readonly requests: readonly (Omit<Seen, 'url' | 'host'> & {
    readonly url: readonly [scheme: string, host: string, port: string, rest: string] | null;
    readonly host: string | null;
  })[];
  readonly after: After;
}

/** Python's http.server, in a process of its own until `stop`. */
export function pythonReader(): Reader {
  const script = join(import.meta.dirname, 'reader.py');
  const child = spawn('/usr/bin/python3', ['-I', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting: { resolve: (reading: Reading) => void; reject: (error: Error) => void }[] = [];
  createInterface(child.stdout).on('line', (line) => {
    const said: Said = JSON.parse(line);
    waiting.shift()?.resolve(readingOf(said));
  });
  child.on('exit', () => {
    for (const { reject } of waiting.splice(0)) reject(new Error("Python's reader has ended"));
  });
  child.stdin.on('error', () => {}); // its exit says so
  return {
    name: 'python',
    read: (text) => {
      child.stdin.write(`${Buffer.from(text, 'latin1').toString('base64')}\n`);
      return new Promise<Reading>((resolve, reject) => waiting.push({ resolve, reject }));
    },
    stop: () => void child.stdin.end(),
  };
}

function readingOf({ requests, after }: Said): Reading {
  const seen = requests.map((request) => ({
    ...request,
    url: request.url ? urlText(...request.url) : undefined,
    host: request.host ?? undefined,
  }));
  return { requests: seen, after };
}
