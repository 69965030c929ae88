import { readFileSync } from 'node:fs';
import { OutriderError } from './errors.ts';

/** The arguments of a part without `--config FILE`, and that file's text where one was named. */
export interface ConfigArguments {
  readonly argv: readonly string[];
  readonly file: { readonly name: string; readonly text: string } | undefined;
}

/**
 * Takes `--config FILE` or `--config=FILE` out of the arguments and reads the file; the last one counts.
 * @throws {OutriderError} CONFIG_INVALID where the file's name is missing or the file cannot be read
 */
export function takeConfigFile(argv: readonly string[]): ConfigArguments {
  const rest: string[] = [];
  let name: string | undefined;
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '--config') name = argv[++at] ?? '';
    else if (word.startsWith('--config=')) name = word.slice('--config='.length);
    else rest.push(word);
  }
  return {
    argv: rest,
    file: name === undefined ? undefined : { name, text: readConfigFile(name) },
  };
}

/** @throws {OutriderError} CONFIG_INVALID, with the reason that the system gives */
export function readConfigFile(name: string): string {
  if (name === '') throw new OutriderError('CONFIG_INVALID', '--config needs the name of a file');
  try {
    return readFileSync(name, 'utf8');
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : '';
    throw new OutriderError('CONFIG_INVALID', `the configuration ${name} cannot be read${reason}`, {
      cause: error,
    });
  }
}
