import type { PolicyKind } from './document.ts';

/** One thing that is wrong with one document. */
export interface PolicyProblem {
  readonly kind: PolicyKind;
  /** A Datasource's is `<type>/<name>`. */
  readonly name: string;
  /** Where the document stands in its kind's list of `PolicyDocuments`: names may be there twice. */
  readonly index: number;
  /** The keys and indexes that lead to it, as `['spec', 'allow', 0, 'hosts', 1]`. */
  readonly path: DocumentPath;
  /** What is wrong and what would be right. */
  readonly message: string;
}

export type DocumentPath = readonly (string | number)[];

/** `spec.allow[0].query["per page"]`; `$` for the document as a whole. */
export function formatDocumentPath(path: DocumentPath): string {
  const text = path
    .map((step) => {
      if (typeof step === 'number') return `[${step}]`;
      return /^[A-Za-z]\w*$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`;
    })
    .join('');
  return text === '' ? '$' : text.replace(/^\./, '');
}
