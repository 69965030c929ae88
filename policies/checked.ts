import type { PolicyDocument } from './document.ts';
import type { DocumentPath } from './problem.ts';

/** Says what is wrong at a place in one document. */
export type Report = (path: DocumentPath, message: string) => void;

/** A document with the place to complain about it. */
export interface Checked<D extends PolicyDocument> {
  readonly document: D;
  readonly report: Report;
}
