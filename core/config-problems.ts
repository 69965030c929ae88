import { OutriderError, toOutriderError } from './errors.ts';

/**
 * Makes every check, and tells all that is wrong at once, one a line and each once.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function assertAll(...checks: readonly (() => unknown)[]): void {
  const problems = new Set<string>();
  for (const check of checks)
    try {
      check();
    } catch (error) {
      for (const line of toOutriderError(error).message.split('\n')) problems.add(line);
    }
  if (problems.size > 0) throw new OutriderError('CONFIG_INVALID', [...problems].join('\n'));
}
