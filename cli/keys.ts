import { createKeySet } from '#core/keys';

/** `outrider keys DIRECTORY`: new keys for one mesh whose parts are started one by one. */
export async function keys(
  argv: readonly string[],
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<number> {
  const [directory, ...rest] = argv;
  if (directory === undefined || directory.startsWith('-') || rest.length > 0) {
    (directory === '--help' ? out : err).write(
      'usage: outrider keys DIRECTORY\n\nWrites the signing keys of gateway, runner and local principal, and the lists of public keys, each readable by its owner only.\n',
    );
    return directory === '--help' ? 0 : 2;
  }
  for (const path of Object.values(createKeySet(directory))) out.write(`${path}\n`);
  return 0;
}
