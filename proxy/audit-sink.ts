import { createReadStream, existsSync } from 'node:fs';
import { join } from 'node:path';
import { AuditFile, type AuditHead, hashLine, readLine, ZERO_HASH } from '#core/audit';
import { OutriderError } from '#core/errors';
import { ensurePrivateDir } from '#core/runtime-dir';
import { AuditWriters } from './audit-writers.ts';

export const SIDECAR_FILE = 'sidecar.jsonl';
const LINE_MAX_BYTES = 65_536;
/** What happens at a door; everything else is another part's to say. */
const EVENTS: ReadonlySet<string> = new Set(['start', 'end', 'request', 'checkpoint']);

/** What a delivery came to. */
export interface Taken {
  /** The last record that is stored in order. */
  readonly head: AuditHead;
  /** Set where the chain was not known here and does not begin with its first record: the number of the one it begins with. */
  readonly beginsAt: number | undefined;
}

/** Stores the audit records of sidecars as they were hashed, each once and in order. */
export interface AuditSink {
  /**
   * Takes one delivery: whole lines of the chain of this sandbox, in order; nothing of it is stored unless all of it may be. Records
   * that are stored already are passed over. A chain that is not known here may begin anywhere: the file may have been lost, or
   * another proxy has what was before.
   * @throws {AuditGap} where the delivery does not continue what is stored, or itself
   * @throws {OutriderError} EGRESS_DENIED for records that are not this sandbox's, INVALID_REQUEST, AUDIT_UNAVAILABLE
   */
  take(sandboxId: string, body: string): Taken;
  flush(): void;
  close(): void;
}

/** AUDIT_GAP, with the record after which the sender should go on; null where none of its chain is stored. */
export class AuditGap extends OutriderError {
  readonly acknowledged: AuditHead | null;

  constructor(acknowledged: AuditHead | null, message: string) {
    super('AUDIT_GAP', message);
    this.acknowledged = acknowledged;
  }
}

interface Entry {
  readonly line: string;
  readonly seq: number;
  readonly prev: string;
  readonly hash: string;
  readonly event: string;
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
      const writer = writerOf(sandboxId);
      const entries = linesOf(body).map((line) => entryOf(line, sandboxId, writer));
      const known = writers.get(writer);
      const fresh = known ? behind(known.head, entries) : entries;
      assertContinuous(fresh, known?.head);
      assertBeforeEnd(fresh, known?.ended ?? false);
      for (const { line, seq, hash, event } of fresh) {
        append(file, line);
        writers.add({ writer, seq, hash }, event);
      }
      const head = writers.get(writer)?.head;
      if (!head) throw invalid('there is no record in the delivery');
      const first = fresh[0]?.seq ?? 0;
      return { head, beginsAt: !known && first > 0 ? first : undefined };
    },
    flush: () => file.flush(),
    close: () => file.close(),
  };
}

/** The writer of a sandbox's chain. The token says which sandbox delivers; a record is not asked. */
function writerOf(sandboxId: string): string {
  return `sc-${sandboxId}`;
}

/** One line, if it may be in the chain of this sandbox. @throws {OutriderError} INVALID_REQUEST, EGRESS_DENIED */
function entryOf(line: string, sandboxId: string, writer: string): Entry {
  const read = readLine(line);
  if (!read || !isPlain(line)) throw invalid('a line is not an audit record');
  const { part, event, seq, prev } = read;
  const own = read.sandboxId === undefined || read.sandboxId === sandboxId;
  if (read.writer !== writer || part !== 'sidecar' || !own || !EVENTS.has(event))
    throw new OutriderError('EGRESS_DENIED', 'a record is not one of the sidecar of this sandbox');
  return { line, seq, prev, event, hash: hashLine(line) };
}

/** What was read is all that there is to read: no key twice, no second way to write anything. */
function isPlain(line: string): boolean {
  return JSON.stringify(JSON.parse(line)) === line;
}

/** The entries that come after what is stored. @throws {AuditGap} where the stored one is another */
function behind(head: AuditHead, entries: readonly Entry[]): Entry[] {
  if (entries.some(({ seq, hash }) => seq === head.seq && hash !== head.hash))
    throw new AuditGap(head, `record ${head.seq} is not the one that is stored`);
  return entries.filter(({ seq }) => seq > head.seq);
}

/** @throws {AuditGap} */
function assertContinuous(entries: readonly Entry[], stored: AuditHead | undefined): void {
  let last: Pick<AuditHead, 'seq' | 'hash'> | undefined = stored;
  for (const { seq, prev, hash } of entries) {
    const wanted = last ? last.seq + 1 : seq;
    if (seq !== wanted)
      throw new AuditGap(stored ?? null, `record ${wanted} is wanted, ${seq} was sent`);
    const before = last?.hash ?? (seq === 0 ? ZERO_HASH : prev);
    if (prev !== before)
      throw new AuditGap(stored ?? null, `record ${seq} does not continue the one before`);
    last = { seq, hash };
  }
}

/** Only a checkpoint stands behind the end of a chain. @throws {OutriderError} INVALID_REQUEST */
function assertBeforeEnd(entries: readonly Entry[], ended: boolean): void {
  const end = ended ? 0 : entries.findIndex(({ event }) => event === 'end') + 1;
  const late = ended || end > 0 ? entries.slice(end) : [];
  if (late.some(({ event }) => event !== 'checkpoint')) throw invalid('this chain has ended');
}

function append(file: AuditFile, line: string): void {
  try {
    file.append(line);
  } catch (error) {
    throw new OutriderError('AUDIT_UNAVAILABLE', 'the audit cannot be written', { cause: error });
  }
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
async function writersOf(path: string): Promise<AuditWriters> {
  const writers = new AuditWriters();
  if (!existsSync(path)) return writers;
  for await (const line of wholeLines(path)) {
    const entry = readLine(line);
    if (!entry) continue;
    const head = { writer: entry.writer, seq: entry.seq, hash: hashLine(line) };
    writers.add(head, entry.event);
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
