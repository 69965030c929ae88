import { createHash, type KeyObject } from 'node:crypto';
import { OutriderError } from '#core/errors';
import { isRecord } from '#core/is-record';
import { canonicalJson } from '#policies';
import type { TrustedKey } from './bundle-keys.ts';
import { seal, unseal } from './envelope.ts';
import type { PolicyFile } from './files.ts';

/** Which reviewed state of the documents something is. */
export interface Revision {
  /** The Git commit that it was made from. */
  readonly commit: string;
  /** Grows with every bundle; what was loaded once is never followed by a lower one. */
  readonly serial: number;
}

/** The documents of one revision, with the digest that they have. */
export interface Edition extends Revision {
  readonly digest: string;
  readonly documents: readonly unknown[];
}

/** A signed, self-contained state of a policy: what production loads. */
export interface Bundle extends Edition {
  /** ISO 8601, UTC. */
  readonly madeAt: string;
  /** Where only a share of new sandboxes gets this edition, and all others the one before, which comes along. */
  readonly canary: Canary | null;
}

export interface Canary {
  /** Of new sandboxes, more than 0 and less than 1. */
  readonly share: number;
  /** What all other sandboxes get. */
  readonly base: Edition;
}

/** A bundle as it was read, and whose signature it bears. */
export interface OpenedBundle {
  readonly bundle: Bundle;
  readonly keyId: string;
}

/** The file of a bundle. @throws {OutriderError} POLICY_INVALID where it would not be one */
export function sealBundle(bundle: Bundle, key: KeyObject): string {
  return seal(Buffer.from(canonicalJson(assertBundle(bundle)), 'utf8'), key);
}

/**
 * Reads the file of a bundle: first the signature, then the contents. That the documents are sound, and have the digest that
 * it names, is found when they are loaded.
 * @throws {OutriderError} POLICY_INVALID where no trusted key signed it, or it is no bundle
 */
export function openBundle(text: string, keys: readonly TrustedKey[]): OpenedBundle {
  const { payload, keyId } = unseal(text, keys);
  const source = payload.toString('utf8');
  const value: unknown = JSON.parse(source);
  // One spelling for one bundle: no key twice, nothing that another reader would understand otherwise.
  if (canonicalJson(value) !== source) throw invalid('it is not canonical JSON');
  return { bundle: assertBundle(value), keyId };
}

/**
 * What must not differ between two bundles with one serial: everything but the time at which it was made.
 * @returns SHA-256, lower-case hex
 */
export function bundleContent(bundle: Bundle): string {
  return createHash('sha256')
    .update(canonicalJson({ ...bundle, madeAt: undefined }))
    .digest('hex');
}

/** The documents of an edition as policy files, one each, in JSON. */
export function editionFiles({ documents }: Edition): PolicyFile[] {
  return documents.map((document, index) => ({
    name: `${nameOf(document) ?? `documents/${index}`}.json`,
    text: canonicalJson(document),
  }));
}

/** The edition that most sandboxes have: the bundle's own, or what its canary is tried against. */
export function stableEdition(bundle: Bundle): Edition {
  if (bundle.canary) return bundle.canary.base;
  const { commit, serial, digest, documents } = bundle;
  return { commit, serial, digest, documents };
}

/** `EgressPolicy/analyst`, for messages; the documents are checked later. */
function nameOf(document: unknown): string | undefined {
  if (!isRecord(document) || !isRecord(document['metadata'])) return undefined;
  const { kind, metadata } = document;
  if (typeof kind !== 'string' || typeof metadata['name'] !== 'string') return undefined;
  const typed = kind === 'Datasource' && isRecord(document['spec']) && document['spec']['type'];
  return typeof typed === 'string'
    ? `${kind}/${typed}/${metadata['name']}`
    : `${kind}/${metadata['name']}`;
}

function assertBundle(value: unknown): Bundle {
  const { madeAt, canary, ...rest } = fields(
    value,
    ['canary', 'commit', 'digest', 'documents', 'madeAt', 'serial'],
    'it',
  );
  const edition = assertEdition(rest, 'it');
  if (typeof madeAt !== 'string' || !/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(madeAt))
    throw invalid('its madeAt is not a time in UTC');
  return { ...edition, madeAt, canary: canary === null ? null : assertCanary(canary, edition) };
}

function assertCanary(value: unknown, edition: Edition): Canary {
  const { share, base } = fields(value, ['base', 'share'], 'its canary');
  if (typeof share !== 'number' || !(share > 0 && share < 1))
    throw invalid('the share of its canary is not a number between 0 and 1');
  const basis = assertEdition(
    fields(base, ['commit', 'digest', 'documents', 'serial'], 'the base of its canary'),
    'the base of its canary',
  );
  if (basis.serial >= edition.serial)
    throw invalid('the base of its canary does not have a lower serial');
  if (basis.digest === edition.digest)
    throw invalid('its canary is no change: both editions have the same documents');
  return { share, base: basis };
}

function assertEdition(value: Record<string, unknown>, what: string): Edition {
  const { commit, serial, digest, documents } = value;
  if (typeof commit !== 'string' || !/^[0-9a-f]{40,64}$/.test(commit))
    throw invalid(`${what} names no commit`);
  if (!Number.isSafeInteger(serial) || typeof serial !== 'number' || serial < 1)
    throw invalid(`${what} has no serial, a whole number from 1`);
  if (typeof digest !== 'string' || !/^[0-9a-f]{64}$/.test(digest))
    throw invalid(`${what} has no digest`);
  if (!Array.isArray(documents)) throw invalid(`${what} has no list of documents`);
  const list: readonly unknown[] = documents;
  return { commit, serial, digest, documents: list };
}

/** A map with exactly these keys. */
function fields(value: unknown, keys: readonly string[], what: string): Record<string, unknown> {
  if (!isRecord(value) || Object.keys(value).toSorted().join() !== keys.join())
    throw invalid(`${what} does not have the fields ${keys.join(', ')}, and no others`);
  return value;
}

function invalid(message: string): OutriderError {
  return new OutriderError('POLICY_INVALID', `the bundle is not one of this version: ${message}`);
}
