/** How a call of a tool ended: `failed` is the tool's own word, `error` anybody else's. */
export type CallOutcome = 'ok' | 'failed' | 'error' | 'denied' | 'cancelled';

/** Longer than what is looked for. */
const TAIL = 64;
const TOOL_FAILED = /"isError"\s{0,8}:\s{0,8}true/;
const RPC_ERROR = /"error"\s{0,8}:\s{0,8}\{\s{0,8}"(?:code|message)"\s{0,8}:/;

/**
 * Looks in the bytes of an answer for what its status does not say. Quotes within a text are escaped, so what is found is a
 * key; one of the tool's own structured result counts as well. Keeps 64 characters of the answer and no more.
 */
export class AnswerWatch {
  #tail = '';
  #failed = false;
  #error = false;
  bytes = 0;

  /** `piece`: as many characters as bytes (latin-1). */
  see(piece: string): void {
    this.bytes += piece.length;
    const text = this.#tail + piece;
    this.#failed ||= TOOL_FAILED.test(text);
    this.#error ||= RPC_ERROR.test(text);
    this.#tail = text.slice(-TAIL);
  }

  outcome(status: number | undefined): CallOutcome {
    if (status === undefined) return 'cancelled';
    if (status >= 400 || this.#error) return 'error';
    return this.#failed ? 'failed' : 'ok';
  }
}
