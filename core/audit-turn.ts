import type { AuditSink, AuditTurn } from './audit-line.ts';
import { OutriderError } from './errors.ts';
import { atTurnEnd } from './turn-end.ts';

/** Lines that could not be written yet. */
const OWED_MAX = 10_000;

/** Told that a record is safe, or why it is not. Must not throw. */
export type Written = (error?: OutriderError) => void;

/**
 * A sink before another that writes what one turn of the event loop has recorded at once: under load many exchanges end in one turn,
 * and each write is a call of the system. Lines that cannot be written are owed, and come before any other.
 */
export class TurnSink implements AuditSink {
  readonly previous: AuditSink['previous'];
  readonly #sink: AuditSink;
  readonly #failed: (error: OutriderError, owed: number) => void;
  #lines: string[] = [];
  #waiting: Written[] = [];
  #due = false;
  #failing = false;

  /** `failed` is told when the end of a turn could not write, and how many lines are owed. */
  constructor(sink: AuditSink, failed: (error: OutriderError, owed: number) => void) {
    this.#sink = sink;
    this.previous = sink.previous;
    this.#failed = failed;
  }

  /** Whether the last attempt to write failed. */
  get failing(): boolean {
    return this.#failing;
  }

  /** @throws {OutriderError} AUDIT_UNAVAILABLE where 10 000 lines are owed, and the line is not taken */
  append(line: string): void {
    if (this.#lines.length >= OWED_MAX) throw unavailable('too many records are owed');
    this.#lines.push(line);
    if (this.#due) return;
    this.#due = true;
    atTurnEnd(() => this.#endTurn());
  }

  /** Calls `written` once, by the end of this turn, when everything appended before has been written or could not be. */
  afterwards(written: Written): void {
    if (this.#lines.length === 0) written();
    else this.#waiting.push(written);
  }

  /** Writes what there is, now. @throws {OutriderError} AUDIT_UNAVAILABLE, and the lines are kept for the next time */
  write(): void {
    if (this.#lines.length > 0) {
      try {
        this.#sink.append(this.#lines.join('\n'));
      } catch (error) {
        this.#failing = true;
        throw unavailable(error);
      }
      this.#lines = [];
      this.#failing = false;
    }
    this.#tell();
  }

  /** Asked of the first line of a turn alone: what one turn has recorded stays in one file. */
  turn(bytes: number): AuditTurn | undefined {
    return this.#lines.length === 0 ? this.#sink.turn?.(bytes) : undefined;
  }

  flush(): void {
    this.write();
    this.#sink.flush?.();
  }

  close(): void {
    try {
      this.write();
    } finally {
      this.#sink.close?.();
    }
  }

  #endTurn(): void {
    this.#due = false;
    try {
      this.write();
    } catch (thrown) {
      const error = unavailable(thrown);
      this.#failed(error, this.#lines.length);
      this.#tell(error);
    }
  }

  #tell(error?: OutriderError): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const written of waiting) written(error);
  }
}

function unavailable(cause: unknown): OutriderError {
  return cause instanceof OutriderError
    ? cause
    : new OutriderError('AUDIT_UNAVAILABLE', 'the audit cannot be written', { cause });
}
