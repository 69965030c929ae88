import { AnswerParser } from '#core/http1/answer-parser';
import { Random } from '../../support/random.ts';
import type { Case } from './grammar.ts';
import { type Reading, ReadingInProgress } from './reading.ts';

/** What our parser makes of a case. */
export interface Told {
  /** While the connection is open. */
  readonly open: Reading;
  /** Once it has ended behind the last byte. */
  readonly ended: Reading;
  /** How many bytes are the answer, where it ends by itself. */
  readonly bytes: number | undefined;
  /** Where the same bytes in other pieces gave something else. */
  readonly uneven: string | undefined;
}

const HEAD_MAX_BYTES = 16_384;

/** Gives a case to `AnswerParser` at once, byte by byte, and in the pieces that it asks for. */
export function tellOurs({ method, text, cuts }: Case): Told {
  const bytes = Buffer.from(text, 'latin1');
  const single = [...bytes.keys()].map((at) => bytes.subarray(at, at + 1));
  const whole = read(method, [bytes]);
  const bytewise = read(method, single);
  const pieced = read(method, piecesOf(bytes, new Random(cuts)));
  const uneven =
    whole.text === bytewise.text && whole.text === pieced.text
      ? undefined
      : `at once ${whole.text}\n    byte by byte ${bytewise.text}\n    in pieces ${pieced.text}`;
  return { open: whole.open, ended: whole.ended, bytes: bytewise.wholeAfter, uneven };
}

function piecesOf(bytes: Buffer, random: Random): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = random.once(3) ? 1 : 1 + random.below(40);
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

function read(
  method: string,
  pieces: readonly Buffer[],
): { open: Reading; ended: Reading; wholeAfter: number | undefined; text: string } {
  const progress = new ReadingInProgress();
  let wholeAfter: number | undefined;
  let given = 0;
  const parser = new AnswerParser(
    {
      onHead: ({ status, headers }) => progress.head(status, headers),
      onData: (chunk) => progress.data(chunk),
      onEnd: (trailers) => {
        wholeAfter = given;
        progress.end(trailers);
      },
      onUpgrade: () => progress.refuse(), // nobody asked for it
    },
    HEAD_MAX_BYTES,
  );
  parser.expect(method);
  const attempt = (step: () => void): string => {
    try {
      step();
      return '';
    } catch (error) {
      progress.refuse();
      return error instanceof Error && 'code' in error ? String(error.code) : String(error);
    }
  };
  const refusal = attempt(() => {
    for (const piece of pieces) {
      given += piece.length;
      parser.push(piece);
    }
  });
  const open = progress.reading();
  const reusable = parser.reusable;
  const early = refusal === '' ? attempt(() => parser.end()) : '';
  const ended = progress.reading();
  return {
    open,
    ended,
    wholeAfter,
    text: JSON.stringify({ open, ended, refusal, early, reusable }),
  };
}
