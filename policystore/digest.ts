import { createHash } from 'node:crypto';
import { canonicalJson, type PolicyDocument } from '#policies';

/**
 * SHA-256, lower-case hex, over the canonical JSON of all documents sorted by kind and name (a Datasource's name begins with
 * its type). Comments, order, files and layout do not count.
 */
export function digestOf(documents: readonly PolicyDocument[]): string {
  return createHash('sha256')
    .update(canonicalJson(sortedDocuments(documents)))
    .digest('hex');
}

/** By kind and name, compared by UTF-16 code units: the order in which the digest, and a bundle, have them. */
export function sortedDocuments(documents: readonly PolicyDocument[]): PolicyDocument[] {
  return documents
    .map((document) => ({ key: `${document.kind} ${fullName(document)}`, document }))
    .toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map(({ document }) => document);
}

/** A Datasource is named within its type: `prometheus/main`. */
export function fullName(document: PolicyDocument): string {
  const { name } = document.metadata;
  return document.kind === 'Datasource' ? `${document.spec.type}/${name}` : name;
}
