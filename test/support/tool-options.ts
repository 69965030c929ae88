import { type ParseArgsConfig, parseArgs } from 'node:util';

/**
 * What a developer's tool was told. Where that cannot be read, and for `--help`, `usage` is printed and this process ends: with 2, and with 0.
 */
export function toolOptions<const T extends ParseArgsConfig>(
  usage: string,
  config: T,
): ReturnType<typeof parseArgs<T>> {
  const told = config.args ?? process.argv.slice(2);
  if (told.includes('--help')) {
    process.stdout.write(`${usage}\n`);
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    return misused(usage, error instanceof Error ? error.message : String(error));
  }
}

/** Says what was wrong, and how it is right, and ends this process with 2. */
export function misused(usage: string, problem: string): never {
  process.stderr.write(`${problem}\n${usage}\n`);
  process.exit(2);
}
