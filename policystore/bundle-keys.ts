import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import { readSigningKey, readTrustedIssuers } from '#core/keys';

/** A public key whose bundles are loaded. */
export interface TrustedKey {
  /** Of the key itself, however its file spells it. */
  readonly id: string;
  readonly key: KeyObject;
}

/** The first 16 letters of the base64url SHA-256 of the public key (SubjectPublicKeyInfo, DER). */
export function keyId(key: KeyObject): string {
  const open = key.type === 'private' ? createPublicKey(key) : key;
  const der = open.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(der).digest('base64url').slice(0, 16);
}

/**
 * The key that signs bundles: a file of `outrider policy keygen`, or Ed25519 as PEM (PKCS #8).
 * @throws {OutriderError} CONFIG_INVALID
 */
export function readBundleKey(path: string): KeyObject {
  const text = readText(path);
  const key = text.trimStart().startsWith('-----')
    ? fromPem(path, text, createPrivateKey)
    : createPrivateKey({ key: { ...readSigningKey(path).jwk }, format: 'jwk' });
  return assertEd25519(path, key);
}

/**
 * The keys whose bundles are loaded: a file, or every `*.pub.json` and `*.pem` of a directory. Each is a list as
 * `outrider policy keygen` writes it, or one public key as PEM.
 * @throws {OutriderError} CONFIG_INVALID, also where there is none
 */
export function readTrustedKeys(path: string): TrustedKey[] {
  const keys = keyFiles(path).flatMap((file) => keysOf(file));
  if (keys.length === 0)
    throw invalid(`${path} has no public key: make one with \`outrider policy keygen\``);
  return keys.map((key) => ({ id: keyId(key), key }));
}

function keyFiles(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    return readdirSync(path)
      .filter((name) => /\.(?:pub\.json|pem)$/.test(name) && !name.startsWith('.'))
      .map((name) => join(path, name));
  } catch (error) {
    throw invalid(`${path} cannot be read`, error);
  }
}

function keysOf(path: string): KeyObject[] {
  const text = readText(path);
  if (text.includes('PRIVATE KEY'))
    throw invalid(`${path} is a private key: name the public one, and keep this one elsewhere`);
  if (text.trimStart().startsWith('-----'))
    return [assertEd25519(path, fromPem(path, text, createPublicKey))];
  return readTrustedIssuers(path).flatMap(({ keys }) =>
    keys.map((jwk) => {
      if ('d' in jwk)
        throw invalid(`${path} is a private key: name the public one, and keep this one elsewhere`);
      return assertEd25519(
        path,
        fromPem(path, jwk, (key) => createPublicKey({ key, format: 'jwk' })),
      );
    }),
  );
}

function fromPem<T>(path: string, source: T, read: (source: T) => KeyObject): KeyObject {
  try {
    return read(source);
  } catch (error) {
    throw invalid(`${path} is not a key`, error);
  }
}

function assertEd25519(path: string, key: KeyObject): KeyObject {
  if (key.asymmetricKeyType === 'ed25519') return key;
  throw invalid(`${path} is not an Ed25519 key: make one with \`outrider policy keygen\``);
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw invalid(`${path} cannot be read`, error);
  }
}

function invalid(message: string, cause?: unknown): OutriderError {
  return new OutriderError('CONFIG_INVALID', message, cause === undefined ? {} : { cause });
}
