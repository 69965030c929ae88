import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import { stateDir } from '#core/runtime-dir';

/** The token to send now; undefined where there is none, as for a gateway started with `--insecure`. */
export type TokenSource = () => string | undefined;

/**
 * The token of the file `named`, else of `OUTRIDER_TOKEN`, else the local one. A file is read for each request, for tokens rotate; while
 * it cannot be read or holds no token, the last one that it held is sent.
 * @throws {OutriderError} CONFIG_INVALID where `named` or `OUTRIDER_TOKEN` holds none
 */
export function createTokenSource(
  named: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): TokenSource {
  const given = env['OUTRIDER_TOKEN'];
  if (named === undefined && given) {
    const token = parseToken(given);
    if (token === undefined)
      throw new OutriderError('CONFIG_INVALID', 'OUTRIDER_TOKEN is not a token');
    return () => token;
  }
  const path = named ?? join(stateDir(env, process.getuid?.() ?? 0), 'token');
  let last = readToken(path);
  if (named !== undefined && last === undefined)
    throw new OutriderError('CONFIG_INVALID', `no token can be read from the file ${path}`);
  return () => {
    last = readToken(path) ?? last;
    return last;
  };
}

function readToken(path: string): string | undefined {
  try {
    return parseToken(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** What a header can carry; anything else would be refused with an error that repeats it. */
function parseToken(text: string): string | undefined {
  const token = text.trim();
  return /^[\x21-\x7e]+$/.test(token) ? token : undefined;
}
