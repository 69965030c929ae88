import { realpathSync } from 'node:fs';
import { join, sep } from 'node:path';
import { refused } from './refusal.ts';
import type { KeyRing } from './secrets/key-ring.ts';
import { open, parseSealed } from './secrets/sealed.ts';
import { parseSlot, slotPath, slotText } from './secrets/store.ts';
import { ControlCharacter, type SecretUse, usableValue } from './secrets/value.ts';
import { WatchedFiles } from './secrets/watched-file.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Resolves a `secretRef` of the policy to its value. The only place where a secret's value enters the process. */
export interface Secrets {
  /** The value, for a header. @throws {OutriderError} CREDENTIAL_UNAVAILABLE; the cause says why, without the value */
  read(secretRef: string): string;
  /** The value of a slot that holds PEM. @throws {OutriderError} as `read` */
  readPem(secretRef: string): string;
}

export interface SecretsOptions {
  /** Where the files of `file:name` are. */
  readonly directory: string;
  /** Where `env:NAME` is read. */
  readonly env: Env;
  /** The local store; absent: `store:` is refused. */
  readonly store?: { readonly directory: string; readonly ring: () => KeyRing } | undefined;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: () => number;
}

/**
 * `env:NAME` is read from `env`; `file:name` from a regular file under `directory`, its one trailing line feed removed;
 * `store:<instance>:<NAME>` from the encrypted local store. Files are read again within 200 ms of a change. A value that is empty,
 * over 8 KiB or holds a control character is refused: it could end a header early.
 */
export function createSecrets({ directory, env, store, now }: SecretsOptions): Secrets {
  const files = new WatchedFiles(now);
  const opened = new Map<string, { readonly from: string; readonly value: string }>();

  const readStored = (name: string): string => {
    if (!store) throw new Error('there is no secret store');
    const slot = parseSlot(`store:${name}`);
    const text = slotText(slot);
    const from = files.read(text, () => slotPath(store.directory, slot));
    const known = opened.get(text);
    if (known?.from === from) return known.value;
    const value = open(text, parseSealed(from), store.ring());
    opened.set(text, { from, value });
    return value;
  };

  const valueOf = (scheme: string, name: string): string => {
    switch (scheme) {
      case 'env':
        return env[name] ?? '';
      case 'file':
        return files.read(`file:${name}`, () => insideOf(directory, name)).replace(/\r?\n$/, '');
      case 'store':
        return readStored(name);
      default:
        throw new Error('unknown kind of slot');
    }
  };

  const read = (secretRef: string, use: SecretUse): string => {
    try {
      return usableValue(valueOf(...splitRef(secretRef)), use);
    } catch (error) {
      throw refused(
        'CREDENTIAL_UNAVAILABLE',
        'the credential of this call cannot be read',
        error instanceof ControlCharacter ? 'secret_control_char' : 'credential_unavailable',
        { because: new Error(`${secretRef}: ${reasonOf(error)}`) },
      );
    }
  };
  return {
    read: (secretRef) => read(secretRef, 'header'),
    readPem: (secretRef) => read(secretRef, 'pem'),
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

function splitRef(secretRef: string): [string, string] {
  const at = secretRef.indexOf(':');
  return [secretRef.slice(0, at), secretRef.slice(at + 1)];
}

/** A file system error says its code only: the path of a secret is nobody's business. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unreadable';
  return 'code' in error ? String(error.code) : error.message;
}
