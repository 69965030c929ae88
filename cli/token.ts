import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { stateDir } from '#core/runtime-dir';

type Env = Readonly<Record<string, string | undefined>>;

/** Where the local token is kept: it outlives a run, so that what was pasted into a client goes on working. */
export function tokenFile(env: Env, uid: number): string {
  return join(stateDir(env, uid), 'token');
}

/** `outrider token`: the local token, for scripts and for pasting. Exit code 1 where there is none. */
export async function token(
  argv: readonly string[],
  env: Env,
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<number> {
  if (argv.length > 0) {
    (argv[0] === '--help' ? out : err).write(
      'usage: outrider token\n\nPrints the token that the gateway of this machine accepts. Treat it as a password.\n',
    );
    return argv[0] === '--help' ? 0 : 2;
  }
  const path = tokenFile(env, process.getuid?.() ?? 0);
  try {
    const found = readFileSync(path, 'utf8').trim();
    if (found === '') throw new Error('it is empty');
    out.write(`${found}\n`);
    return 0;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'it is empty';
    err.write(
      code === 'ENOENT'
        ? `outrider token: there is no token yet, ${path}: start the mesh with \`npm start\`, or name its directory with OUTRIDER_STATE_DIR\n`
        : `outrider token: ${path} cannot be read (${code}): ask as the user whose mesh it is\n`,
    );
    return 1;
  }
}
