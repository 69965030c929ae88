import { createReadStream, existsSync } from 'node:fs';
import { join } from 'node:path';
import { AuditFile, type AuditHead, hashLine, readLine, ZERO_HASH } from '#core/audit';
import { OutriderError } from '#core/errors';
import { ensurePrivateDir } from '#core/runtime-dir';

export const SIDECAR_FILE = 'sidecar.jsonl';
const LINE_MAX_BYTES = 65_536;
/** Writers are remembered, so that a repeated delivery is known; above this the one that wrote longest ago is forgotten. */
const WRITERS_MAX = 50_000;

/** Stores the audit records of sidecars as they were hashed, each once and in order. */
export interface AuditSink {
  /**
   * Takes one delivery: whole lines of one writer, in order. Records that are stored already are passed over.
   * Returns the last record that is stored in order.
   * @throws {AuditGap} where the delivery begins after the next record that is wanted, or does not continue the chain
   * @throws {OutriderError} INVALID_REQUEST, AUDIT_UNAVAILABLE
   */
  take(sandboxId: string, body: string): AuditHead;
  flush(): void;
  close(): void;
}

/** AUDIT_GAP, with the record after which the sender should go on; null for its first. */
export class AuditGap extends OutriderError {
  readonly acknowledged: AuditHead | null;

  constructor(acknowledged: AuditHead | null, message: string) {
    super('AUDIT_GAP', message);
    this.acknowledged = acknowledged;
  }
}

interface Writer {
  readonly head: AuditHead;
  /** Whose token delivered it first in this run; a chain is not continued by another sandbox. */
  readonly sandboxId: string | undefined;
}

/**
 * Opens `<directory>/sidecar.jsonl` and reads from it how far each writer had come. A record is acknowledged when the kernel has
 * it, so that no end of this process loses one; it is on the disk with the next `flush`.
 */
export async function openAuditSink(directory: string): Promise<AuditSink> {
  ensurePrivateDir(directory);
  const path = join(directory, SIDECAR_FILE);
  const writers = await writersOf(path);
  const file = new AuditFile(path);

  return {
    take(sandboxId, body) {
      const lines = linesOf(body);
      let writer: string | undefined;
      for (const line of lines) {
        const entry = readLine(line);
        if (!entry) throw invalid('a line is not an audit record');
        writer ??= entry.writer;
        if (entry.writer !== writer) throw invalid('one delivery holds the records of one writer');
        const known = writers.get(writer);
        if (known?.sandboxId !== undefined && known.sandboxId !== sandboxId)
          throw invalid('these records belong to another sandbox');
        const head = known?.head ?? { writer, seq: -1, hash: ZERO_HASH };
        if (entry.seq < head.seq) continue;
        const hash = hashLine(line);
        if (entry.seq === head.seq && hash === head.hash) continue;
        if (entry.seq !== head.seq + 1 || entry.prev !== head.hash)
          throw new AuditGap(
            known?.head ?? null,
            entry.seq > head.seq + 1
              ? `record ${head.seq + 1} is wanted, ${entry.seq} was sent`
              : `record ${entry.seq} does not continue what is stored`,
          );
        append(file, line);
        remember(writers, writer, { head: { writer, seq: entry.seq, hash }, sandboxId });
      }
      const stored = writer === undefined ? undefined : writers.get(writer)?.head;
      if (!stored) throw invalid('there is no record in the delivery');
      return stored;
    },
    flush: () => file.flush(),
    close: () => file.close(),
  };
}

function append(file: AuditFile, line: string): void {
  try {
    file.append(line);
  } catch (error) {
    throw new OutriderError('AUDIT_UNAVAILABLE', 'the audit cannot be written', { cause: error });
  }
}

function remember(writers: Map<string, Writer>, name: string, writer: Writer): void {
  writers.delete(name);
  writers.set(name, writer);
  const oldest = writers.keys().next().value;
  if (writers.size > WRITERS_MAX && oldest !== undefined) writers.delete(oldest);
}

function linesOf(body: string): string[] {
  if (!body.endsWith('\n')) throw invalid('the last line is cut short');
  const lines = body.slice(0, -1).split('\n');
  if (lines.some((line) => Buffer.byteLength(line) > LINE_MAX_BYTES))
    throw invalid(`a record is larger than ${LINE_MAX_BYTES} bytes`);
  return lines;
}

function invalid(message: string): OutriderError {
  return new OutriderError('INVALID_REQUEST', message);
}

/** How far each writer had come in an earlier run. A chain that is broken in the file goes on from its last whole record. */
async function writersOf(path: string): Promise<Map<string, Writer>> {
  const writers = new Map<string, Writer>();
  if (!existsSync(path)) return writers;
  for await (const line of wholeLines(path)) {
    const entry = readLine(line);
    if (!entry) continue;
    const head = { writer: entry.writer, seq: entry.seq, hash: hashLine(line) };
    remember(writers, entry.writer, { head, sandboxId: undefined });
  }
  return writers;
}

/** `node:readline` also ends lines at U+2028, which JSON text may hold. */
async function* wholeLines(path: string): AsyncGenerator<string> {
  let rest = '';
  for await (const piece of createReadStream(path, { encoding: 'utf8' })) {
    const lines = (rest + String(piece)).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}
