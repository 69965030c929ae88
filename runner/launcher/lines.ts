import type { Readable } from 'node:stream';

/** No line is longer, in either direction. */
const LINE_MAX = 64 * 1024;

/** The lines of a stream, without what follows the last. @throws {Error} of a line longer than 64 KiB */
export async function* linesOf(stream: Readable): AsyncGenerator<string, void, undefined> {
  let rest = '';
  for await (const chunk of stream.setEncoding('utf8')) {
    const parts = (rest + String(chunk)).split('\n');
    rest = parts.pop() ?? '';
    if (Math.max(rest.length, ...parts.map((part) => part.length)) > LINE_MAX)
      throw new Error('a line is too long');
    yield* parts;
  }
}
