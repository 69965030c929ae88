import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { type Hear, PREFIX, TOPICS, type Topic } from './store.ts';

const DAY_MS = 24 * 3_600_000;
const NEWLINE = 0x0a;

/** The file to which what is told of `topic` is appended, a line each: one a day, so that old ones can go. */
export function logName(topic: Topic, at = Date.now()): string {
  return `${PREFIX}-${topic}.${new Date(at).toISOString().slice(0, 10)}`;
}

/** Reads what has been appended to the logs in a directory since the last time. */
export class LogReader {
  readonly #directory: string;
  /** By its name, how many bytes were read of each log that may have more. */
  readonly #readTo = new Map<string, number>();

  constructor(directory: string) {
    this.#directory = directory;
    for (const name of readdirSync(directory)) if (topicOf(name)) this.#readTo.set(name, 0);
  }

  read(hear: Hear): void {
    const now = Date.now();
    // What was told just before midnight may be looked for after it.
    const grow = TOPICS.flatMap((topic) => [logName(topic, now - DAY_MS), logName(topic, now)]);
    for (const name of grow) if (!this.#readTo.has(name)) this.#readTo.set(name, 0);
    for (const name of [...this.#readTo.keys()].toSorted()) {
      const from = this.#readTo.get(name) ?? 0;
      const topic = topicOf(name);
      const added = readFrom(join(this.#directory, name), from);
      // A line is there as a whole, or not yet.
      const whole = added.subarray(0, added.lastIndexOf(NEWLINE) + 1);
      this.#readTo.set(name, from + whole.length);
      for (const line of whole.toString('latin1').split('\n'))
        if (topic && line !== '') hear(topic, line);
      if (!grow.includes(name)) this.#readTo.delete(name);
    }
  }
}

function topicOf(name: string): Topic | undefined {
  return TOPICS.find((topic) => name.startsWith(`${PREFIX}-${topic}.`));
}

/** What a file holds from a byte on; nothing where there is none. */
function readFrom(path: string, from: number): Buffer {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT')
      return Buffer.alloc(0);
    throw error;
  }
  try {
    const bytes = Buffer.alloc(Math.max(0, fstatSync(file).size - from));
    return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, from));
  } finally {
    closeSync(file);
  }
}
