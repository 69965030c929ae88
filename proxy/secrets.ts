import { closeSync, fstatSync, openSync, readFileSync, realpathSync } from 'node:fs';
import { join, sep } from 'node:path';
import { refused } from './refusal.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** No credential of a protocol that is carried in a header comes near it. */
const SECRET_MAX_BYTES = 8_192;

/** Resolves a `secretRef` of the policy to its value. The only place where a secret's value enters the process. */
export interface Secrets {
  /** The value. @throws {OutriderError} CREDENTIAL_UNAVAILABLE; the cause says why, without the value */
  read(secretRef: string): string;
}

/**
 * `env:NAME` is read from `env`; `file:name` from a regular file under `directory`, again whenever the file has changed, its
 * one trailing line feed removed. A value that is empty, over 8 KiB or holds a control character is refused: it could end a
 * header early. `store:` is not in this version.
 */
export function createSecrets({ directory, env }: { directory: string; env: Env }): Secrets {
  const files = new Map<string, { stamp: string; value: string }>();

  const readFile = (name: string): string => {
    const path = insideOf(directory, name);
    const fd = openSync(path, 'r');
    try {
      const stat = fstatSync(fd, { bigint: true });
      if (!stat.isFile()) throw new Error('not a regular file');
      if (stat.size > SECRET_MAX_BYTES) throw new Error(`larger than ${SECRET_MAX_BYTES} bytes`);
      // A Kubernetes mount swaps a link to another file, so the inode counts as well as the time.
      const stamp = `${stat.ino}.${stat.mtimeNs}.${stat.size}`;
      const known = files.get(path);
      if (known?.stamp === stamp) return known.value;
      const value = usable(readFileSync(fd, 'utf8').replace(/\r?\n$/, ''));
      files.set(path, { stamp, value });
      return value;
    } finally {
      closeSync(fd);
    }
  };

  return {
    read(secretRef) {
      const [scheme, name] = splitRef(secretRef);
      try {
        if (scheme === 'env') return usable(env[name] ?? '');
        if (scheme === 'file') return readFile(name);
        throw new Error(
          scheme === 'store' ? 'the secret store is not in this version' : 'unknown kind of slot',
        );
      } catch (error) {
        throw refused(
          'CREDENTIAL_UNAVAILABLE',
          'the credential of this call cannot be read',
          error instanceof ControlCharacter ? 'secret_control_char' : 'credential_unavailable',
          { because: new Error(`${secretRef}: ${reasonOf(error)}`) },
        );
      }
    },
  };
}

/** The real path of `name` under `directory`. A name that leaves the directory, by dots or by a link, is refused. */
function insideOf(directory: string, name: string): string {
  const parts = name.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..'))
    throw new Error('not a plain name');
  const root = realpathSync(directory);
  const path = realpathSync(join(root, ...parts));
  if (!path.startsWith(root + sep)) throw new Error('leads out of the secrets directory');
  return path;
}

function usable(value: string): string {
  if (value === '') throw new Error('empty');
  if (Buffer.byteLength(value) > SECRET_MAX_BYTES)
    throw new Error(`larger than ${SECRET_MAX_BYTES} bytes`);
  // Beyond ASCII, a header would carry other bytes than the file has.
  if (/[^\x20-\x7e]/.test(value)) throw new ControlCharacter();
  return value;
}

class ControlCharacter extends Error {
  override readonly message = 'holds a control or non-ASCII character';
}

function splitRef(secretRef: string): [string, string] {
  const at = secretRef.indexOf(':');
  return [secretRef.slice(0, at), secretRef.slice(at + 1)];
}

/** A file system error says its code only: the path of a secret is nobody's business. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unreadable';
  return 'code' in error ? String(error.code) : error.message;
}
