import { type ParseArgsConfig, parseArgs } from 'node:util';
import { OutriderError } from '#core/errors';
import { nearest } from '#core/nearest';
import { printable } from '#core/printable';

/** Where a command's answers go (`out`), and what is wrong with the call or the policy (`err`). */
export interface Io {
  readonly out: NodeJS.WritableStream;
  readonly err: NodeJS.WritableStream;
}

/** One command of `outrider policy`. Each file of this folder that is one exports it under this name. */
export interface PolicyCommand {
  /** What follows the command's name, options, and what it is for; without the words `usage: outrider policy NAME`. */
  readonly usage: string;
  /**
   * Resolves to the exit code.
   * @throws {WrongUsage} where the call is wrong; {OutriderError} where something cannot be read
   */
  readonly run: (argv: readonly string[], io: Io) => Promise<number>;
}

/** The exit codes of every command: nothing to complain of; something was found; the command could not do its work. */
export const EXIT = { fine: 0, found: 1, unusable: 2 } as const;

/** The call itself is wrong: answered with the message, the command's usage and exit code 2. */
export class WrongUsage extends Error {}

type Options = NonNullable<ParseArgsConfig['options']>;
interface Config<O extends Options> {
  readonly args: string[];
  readonly options: O;
  readonly allowPositionals: true;
}

/** `util.parseArgs` with positionals, in which a mistyped option is told its right spelling. @throws {WrongUsage} */
export function parseCommand<const O extends Options>(
  argv: readonly string[],
  options: O,
): ReturnType<typeof parseArgs<Config<O>>> {
  try {
    return parseArgs<Config<O>>({ args: [...argv], options, allowPositionals: true });
  } catch (error) {
    const message = error instanceof Error ? error.message : 'wrong usage';
    const unknown = /^Unknown option '--?([^']+)'/.exec(message)?.[1];
    if (unknown === undefined) throw new WrongUsage(message);
    const meant = nearest(unknown, Object.keys(options));
    const hint = meant === undefined ? '' : `; did you mean --${meant}?`;
    throw new WrongUsage(`there is no option --${unknown}${hint}`);
  }
}

/** The only positional of a command. @throws {WrongUsage} where there are none or several */
export function onlyDirectory(positionals: readonly string[]): string {
  const [directory, ...more] = positionals;
  if (directory === undefined || more.length > 0)
    throw new WrongUsage('which directory? Exactly one');
  return directory;
}

/** A whole number from `min` to `max` out of an option. @throws {WrongUsage} */
export function wholeNumber(name: string, text: string, min: number, max: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new WrongUsage(`--${name} is a whole number from ${min} to ${max}`);
}

/** Whether the error is about what documents say, with a list of the findings, rather than about reading them. */
export function isUnsound(error: unknown): error is OutriderError {
  return (
    error instanceof OutriderError && error.code === 'POLICY_INVALID' && Array.isArray(error.cause)
  );
}

/**
 * An error as every command reports it: as lines on `err`, or with `--json` as one object on `out`, in which problems that have a
 * place in a file are `findings`, too.
 */
export function reportError(error: OutriderError, json: boolean, io: Io): void {
  const { code, message } = error;
  const problems = message.split('\n');
  if (!json) io.err.write(`${problems.map(printable).join('\n')}\n`);
  else writeJson(io.out, { ok: false, code, problems, findings: problems.flatMap(findingOf) });
}

function findingOf(problem: string): object[] {
  const [, file, line, column, message] = /^(.+?):(\d+):(\d+): (.*)$/s.exec(problem) ?? [];
  return file === undefined ? [] : [{ file, line: Number(line), column: Number(column), message }];
}

/** One JSON value on one line. */
export function writeJson(out: NodeJS.WritableStream, value: unknown): void {
  out.write(`${JSON.stringify(value)}\n`);
}
