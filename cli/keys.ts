import { existsSync, statSync } from 'node:fs';
import { OutriderError, toOutriderError } from '#core/errors';
import { createKeySet, keySetPaths } from '#core/keys';

/** `outrider keys DIRECTORY`: new keys for one mesh whose parts are started one by one. Exit code 1 where there are some, or none can be made. */
export async function keys(
  argv: readonly string[],
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<number> {
  const [directory, ...rest] = argv;
  if (directory === undefined || directory.startsWith('-') || rest.length > 0) {
    (directory === '--help' ? out : err).write(
      'usage: outrider keys DIRECTORY\n\nWrites the signing keys of gateway, runner and local principal, and the lists of public keys, each readable by its owner only.\nKeys that are there are not replaced.\n',
    );
    return directory === '--help' ? 0 : 2;
  }
  try {
    assertNothingLost(directory);
    for (const path of Object.values(createKeySet(directory))) out.write(`${path}\n`);
    return 0;
  } catch (thrown) {
    err.write(`outrider keys: ${toOutriderError(thrown).message}\n`);
    return 1;
  }
}

/** A mesh goes on with the keys that it has, and a directory of others stays open to them. @throws {OutriderError} CONFIG_INVALID */
function assertNothingLost(directory: string): void {
  const there = Object.values(keySetPaths(directory)).find((path) => existsSync(path));
  if (there !== undefined)
    throw new OutriderError(
      'CONFIG_INVALID',
      `${there} is there: choose another directory, or remove the keys of that mesh first`,
    );
  const found = statSync(directory, { throwIfNoEntry: false });
  if (found?.isDirectory() && (found.mode & 0o077) !== 0)
    throw new OutriderError(
      'CONFIG_INVALID',
      `${directory} can be entered by others: name one that is not there yet, or chmod 700 it`,
    );
}
