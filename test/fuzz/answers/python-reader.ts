import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Reader, type Reading, ReadingInProgress } from './reading.ts';

/** What reader.py says. */
type Said = Omit<Reading, 'trailers'>;

/** Python's http.client, in a process of its own until `stop`. It drops trailers. */
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
    read: (method, text, ended) => {
      const bytes = Buffer.from(text, 'latin1').toString('base64');
      child.stdin.write(`${JSON.stringify([method, bytes, ended])}\n`);
      return new Promise<Reading>((resolve, reject) => waiting.push({ resolve, reject }));
    },
    stop: () => void child.stdin.end(),
  };
}

function readingOf({ heads, body, state }: Said): Reading {
  const progress = new ReadingInProgress();
  for (const { status, headers } of heads) progress.head(status, headers);
  progress.data(Buffer.from(body, 'latin1'));
  if (state === 'whole') progress.end(undefined);
  if (state === 'refused') progress.refuse();
  return progress.reading();
}
