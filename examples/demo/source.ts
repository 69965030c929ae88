import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensurePrivateDir, writePrivateFile } from '#core/runtime-dir';

/** What the demo's program is to query: a datasource that the policies name, started for the demo. */
export interface Source {
  readonly name: string;
  /** The program that queries it, in examples/demo/programs. */
  readonly program: string;
  /** The rule that allows it. */
  readonly rule: string;
  /** A URL of it that answers 401 to whoever has no credential. */
  readonly asked: string;
  /** Its credential, and the form in which it travels. */
  readonly secrets: readonly string[];
  /** Waits until it has something to tell; resolves to what. */
  readonly ready: () => Promise<string>;
  readonly stop: () => Promise<void>;
}

/** The secret that the proxy will read under this name: the one that is there, otherwise a new one, for its owner only. */
export function secretFile(state: string, name: string, make: () => string): string {
  const directory = ensurePrivateDir(join(state, 'secrets'));
  const path = join(directory, name);
  if (existsSync(path)) return readFileSync(path, 'utf8').trim();
  const secret = make();
  writePrivateFile(path, `${secret}\n`);
  return secret;
}
