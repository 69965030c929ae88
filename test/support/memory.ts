import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

/** What a search of one process's memory came to. */
export interface Searched {
  /** The names of the texts that are in it. */
  readonly found: readonly string[];
  /** How much could be read; 0 where the process is gone or closed to this one. */
  readonly bytes: number;
}

const PIECE_BYTES = 4 * 2 ** 20;
/** No text that is looked for is longer. */
const OVERLAP_BYTES = 4_096;

/** Searches all that a process could write to (heap, stacks, anonymous maps) for texts, by their names. It takes root. */
export function searchMemory(pid: number, texts: Readonly<Record<string, string>>): Searched {
  const wanted = Object.entries(texts).map(([name, text]) => [name, Buffer.from(text)] as const);
  const found = new Set<string>();
  let bytes = 0;
  const piece = Buffer.alloc(PIECE_BYTES + OVERLAP_BYTES);
  for (const [memory, from, to] of writableMaps(pid))
    for (let at = from; at < to; at += BigInt(PIECE_BYTES)) {
      const left = to - at;
      const length = left < piece.length ? Number(left) : piece.length;
      const read = readAt(memory, piece, length, at);
      bytes += read;
      const part = piece.subarray(0, read);
      for (const [name, text] of wanted) if (part.includes(text)) found.add(name);
    }
  return { found: [...found].toSorted(), bytes };
}

function* writableMaps(pid: number): Generator<readonly [number, bigint, bigint]> {
  let memory: number | undefined;
  try {
    memory = openSync(`/proc/${pid}/mem`, 'r');
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      if (from !== undefined && to !== undefined)
        yield [memory, BigInt(`0x${from}`), BigInt(`0x${to}`)];
    }
  } catch {
    // It has ended.
  } finally {
    if (memory !== undefined) closeSync(memory);
  }
}

/** 0 for a page that is not there. */
function readAt(fd: number, into: Buffer, length: number, at: bigint): number {
  try {
    return readSync(fd, into, 0, length, at);
  } catch {
    return 0;
  }
}
