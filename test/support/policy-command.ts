import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { policy } from '../../cli/index.ts';

/** Runs `outrider policy` in this process. */
export async function policyCommand(
  ...argv: string[]
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const texts = Promise.all([text(out), text(err)]);
  const code = await policy(argv, out, err);
  out.end();
  err.end();
  const [answers, complaints] = await texts;
  return { code, out: answers, err: complaints };
}
