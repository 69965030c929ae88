import { join } from 'node:path';
import {
  type AnchoredHead,
  AUDIT_ROTATION,
  AuditChain,
  type AuditSink as AuditChainSink,
  AuditFile,
  type AuditHead,
  hashLine,
  readLine,
  ZERO_HASH,
} from '#core/audit';
import { OutriderError } from '#core/errors';
import { ensurePrivateDir } from '#core/runtime-dir';
import { readBackTo } from './audit-backwards.ts';
import { AuditWriters } from './audit-writers.ts';

const SIDECAR_FILE = 'sidecar.jsonl';
/** How much is read again at a start. */
const ANCHOR_EVERY_BYTES = 2 * 1_048_576;
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
   * another proxy has what was before. The records of a sandbox are `owner`'s who delivered the first of them, also after a restart,
   * for as long as its chain is known here.
   * @throws {AuditGap} where the delivery does not continue what is stored, or itself
   * @throws {OutriderError} EGRESS_DENIED for records that are not this sandbox's, or not this owner's, INVALID_REQUEST, AUDIT_UNAVAILABLE
   */
  take(sandboxId: string, body: string, owner: string): Taken;
  flush(): void;
  close(): void;
}

/** The same as seen by who may have to ask another process for it. */
export interface AuditStore {
  take(sandboxId: string, body: string, owner: string): Taken | Promise<Taken>;
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
 * Opens `<directory>/sidecar.jsonl` and reads from it how far each writer had come: the part behind its last anchor, which is some
 * MiB whatever was written before. A record is acknowledged when the kernel has it, so that no end of this process loses one; it is on
 * the disk with the next `flush`.
 */
export function openAuditSink(directory: string, rotation = AUDIT_ROTATION): AuditSink {
  ensurePrivateDir(directory);
  const path = join(directory, SIDECAR_FILE);
  const { writers, behindAnchor } = writersOf(path);
  const file = new AuditFile(path, rotation);
  const heads = (): readonly AnchoredHead[] => writers.heads;
  // The records of sidecars are not this proxy's: its anchors are a chain of their own between them.
  const anchors = new AuditChain('proxy', withHeads(file, heads), { silent: true });
  let unanchored = behindAnchor;

  /** `before` is called when it is sure that the line is in the same file as what that writes. */
  const append = (line: string, before?: () => void): void => {
    try {
      const bytes = Buffer.byteLength(line) + 1;
      anchors.makeRoom(bytes);
      before?.();
      file.append(line);
      unanchored += bytes;
    } catch (error) {
      throw new OutriderError('AUDIT_UNAVAILABLE', 'the audit cannot be written', { cause: error });
    }
  };
  /**
   * Written before the first record that is the owner's: a restart in between must not let another in. In the same file, since a start
   * reads back to the anchor at its begin, which knows only owners of chains that have a record.
   */
  const own = (sandboxId: string, writer: string, owner: string): void => {
    anchors.append({ event: 'owner', sandboxId, owner });
    writers.own(writer, owner);
  };

  return {
    take(sandboxId, body, owner) {
      const writer = writerOf(sandboxId);
      const knownOwner = writers.ownerOf(writer);
      if (knownOwner !== undefined && knownOwner !== owner)
        throw new OutriderError(
          'EGRESS_DENIED',
          'the records of this sandbox are delivered by another',
        );
      const entries = linesOf(body).map((line) => entryOf(line, sandboxId, writer));
      const known = writers.get(writer);
      const fresh = known ? behind(known.head, entries) : entries;
      assertContinuous(fresh, known?.head);
      assertBeforeEnd(fresh, known?.ended ?? false);
      let owning = knownOwner === undefined ? () => own(sandboxId, writer, owner) : undefined;
      if (fresh.length === 0) owning?.();
      for (const { line, seq, hash, event } of fresh) {
        append(line, owning);
        owning = undefined;
        writers.add({ writer, seq, hash }, event);
      }
      const head = writers.get(writer)?.head;
      if (!head) throw invalid('there is no record in the delivery');
      const first = fresh[0]?.seq ?? 0;
      return { head, beginsAt: !known && first > 0 ? first : undefined };
    },
    flush() {
      if (unanchored > ANCHOR_EVERY_BYTES) {
        anchors.anchor();
        unanchored = 0;
      }
      file.flush();
    },
    close: () => file.close(),
  };
}

function withHeads(file: AuditFile, heads: () => readonly AnchoredHead[]): AuditChainSink {
  return {
    previous: file.previous,
    append: (line) => file.append(line),
    turn: (bytes) => file.turn(bytes),
    heads,
  };
}

const SIDECAR_PREFIX = 'sc-';

function isSidecars({ writer }: AuditHead): boolean {
  return writer.startsWith(SIDECAR_PREFIX);
}

/** The writer of a sandbox's chain. The token says which sandbox delivers; a record is not asked. */
function writerOf(sandboxId: string): string {
  return `${SIDECAR_PREFIX}${sandboxId}`;
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
function writersOf(path: string): { writers: AuditWriters; behindAnchor: number } {
  const writers = new AuditWriters();
  const lines = readBackTo(path, (line) => readLine(line)?.event === 'anchor');
  let behindAnchor = 0;
  for (const line of lines) {
    const entry = readLine(line);
    if (!entry) continue;
    behindAnchor += line.length;
    if (entry.event === 'anchor')
      for (const { ended, owner, ...head } of entry.heads.filter(isSidecars)) {
        writers.add(head, ended ? 'end' : 'request');
        if (owner !== undefined) writers.own(head.writer, owner);
      }
    // A sidecar cannot write one: its records are of its own part, and of few events.
    if (entry.event === 'owner' && entry.part === 'proxy')
      writers.own(writerOf(entry.sandboxId ?? ''), entry.owner);
    if (entry.part !== 'sidecar') continue;
    writers.add({ writer: entry.writer, seq: entry.seq, hash: hashLine(line) }, entry.event);
  }
  return { writers, behindAnchor };
}
