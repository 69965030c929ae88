import { createPublicKey, type KeyObject } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { OutriderError } from '#core/errors';
import {
  type Bundle,
  keyId,
  openBundle,
  readBundleText,
  readTrustedKeys,
  type TrustedKey,
} from '#policystore';
import { WrongUsage } from './command.ts';

/** The keys whose bundles a command goes on from: those of `--keys`, or the one that it signs with. */
export function trustedBy(key: KeyObject, keys: string | undefined): TrustedKey[] {
  return keys === undefined
    ? [{ id: keyId(key), key: createPublicKey(key) }]
    : readTrustedKeys(keys);
}

/** A bundle file, verified. @throws {OutriderError} POLICY_INVALID, with the file named */
export async function readBundle(path: string, keys: readonly TrustedKey[]): Promise<Bundle> {
  const text = await readBundleText(path);
  try {
    return openBundle(text, keys).bundle;
  } catch (error) {
    if (!(error instanceof OutriderError)) throw error;
    throw new OutriderError(error.code, `${path}: ${error.message}`, { cause: error });
  }
}

/** Puts a bundle in its place at once, so that whoever watches it never sees half of it. */
export function writeBundle(path: string, text: string): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, text, { mode: 0o644 });
    renameSync(temporary, path);
  } catch (error) {
    throw new OutriderError('INVALID_REQUEST', `${path} cannot be written`, { cause: error });
  }
}

/** An option that must be given. @throws {WrongUsage} */
export function needed(name: string, value: string | undefined, what: string): string {
  if (value === undefined) throw new WrongUsage(`which ${what}? --${name} ...`);
  return value;
}

/** A serial out of an option. @throws {WrongUsage} */
export function serialFrom(text: string): number {
  const serial = /^[1-9]\d{0,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(serial)) return serial;
  throw new WrongUsage('--serial is a whole number from 1');
}
