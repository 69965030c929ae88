import { hash as digest } from 'node:crypto';
import { isRecord } from './is-record.ts';

/** A position in a chain: the hash of the line with that number. */
export interface AuditHead {
  readonly writer: string;
  readonly seq: number;
  readonly hash: string;
}

export const ZERO_HASH = '0'.repeat(64);

/** SHA-256 of a line without its line feed, as the next line's `prev` has it. */
export function hashLine(line: string): string {
  return digest('sha256', line);
}

/** Where a chain stands at an anchor, and whether it has ended. */
export interface AnchoredHead extends AuditHead {
  readonly ended?: boolean;
  /** Who delivers it, as an `owner` record says it; absent where nobody is known to. */
  readonly owner?: string;
}

/** Where lines go. `append` throws when the line is not safe; the caller then refuses what it was about to do. */
export interface AuditSink {
  append(line: string): void;
  /** Called with every checkpoint. */
  flush?(): void;
  close?(): void;
  /** The head of what the sink held before this writer. */
  readonly previous?: AuditHead | undefined;
  /** Begins another file where so many bytes more do not fit; says with which anchor the next record must begin it, if it must. */
  turn?(bytes: number): AuditTurn | undefined;
  /** Where the chains of others in the same sink stand. */
  heads?(): readonly AnchoredHead[];
}

/** A file that has just been begun. */
export interface AuditTurn {
  readonly file: number;
  readonly keeps: number;
}

/** What the signature of a checkpoint is over. */
export function headBytes({ writer, seq, hash }: AuditHead): Buffer {
  return Buffer.from(`${writer}\n${seq}\n${hash}`, 'utf8');
}

/** The place of a record in its chain, as its line says it. */
export interface AuditLine {
  readonly event: string;
  /** Empty where the line does not name it as text. The same holds for `sandboxId`, which may also be absent. */
  readonly part: string;
  readonly sandboxId: string | undefined;
  readonly writer: string;
  readonly seq: number;
  readonly prev: string;
  readonly previous: AuditHead | undefined;
  readonly head: AuditHead | undefined;
  /** Of an anchor: where the chains stood. Empty for any other record. */
  readonly heads: readonly AnchoredHead[];
  readonly signature: string;
  /** Of an `owner` record; empty for any other. */
  readonly owner: string;
}

/** One line as far as its place in a chain is concerned; undefined where it is not a record. */
export function readLine(line: string): AuditLine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!isRecord(value)) return undefined;
  const { v, event, writer, seq, prev, signature } = value;
  if (
    v !== 1 ||
    typeof event !== 'string' ||
    typeof writer !== 'string' ||
    typeof prev !== 'string'
  )
    return undefined;
  if (typeof seq !== 'number' || !Number.isSafeInteger(seq) || seq < 0) return undefined;
  const { part, sandboxId, owner } = value;
  return {
    event,
    part: typeof part === 'string' ? part : '',
    sandboxId: sandboxId === undefined || typeof sandboxId === 'string' ? sandboxId : '',
    writer,
    seq,
    prev,
    previous: readHead(value['previous']),
    head: readHead(value['head']),
    heads: readHeads(value['heads']),
    signature: typeof signature === 'string' ? signature : '',
    owner: event === 'owner' && typeof owner === 'string' ? owner : '',
  };
}

function readHead(value: unknown): AuditHead | undefined {
  if (!isRecord(value)) return undefined;
  const { writer, seq, hash } = value;
  return typeof writer === 'string' && typeof seq === 'number' && typeof hash === 'string'
    ? { writer, seq, hash }
    : undefined;
}

function readHeads(value: unknown): AnchoredHead[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((one: unknown) => {
    const head = readHead(one);
    if (!head || !isRecord(one)) return [];
    const { ended, owner } = one;
    return [{ ...head, ended: ended === true, ...(typeof owner === 'string' ? { owner } : {}) }];
  });
}
