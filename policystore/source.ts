import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  visit,
} from 'yaml';
import type { DocumentPath } from '#policies';
import type { PolicyFile } from './files.ts';
import { looksLikeSecret, secretInText } from './secret-shapes.ts';

/** One YAML document of a file, as plain values, and where each of them stands. */
export interface SourceDocument {
  readonly file: string;
  readonly value: unknown;
  /** `file:line:column` of a value, or of the nearest thing around it; of the key itself with `key`. */
  locate(path: DocumentPath, key?: string): string;
}

/** A line for people: where, and what is wrong. */
export interface Finding {
  readonly where: string;
  readonly message: string;
}

/**
 * Reads the YAML 1.2 core of a file and nothing more: no anchors, aliases, tags or directives, no key twice, no invisible
 * characters, nothing that looks like a secret. A document that has a finding is not in `documents`.
 */
export function readSource({ name, text }: PolicyFile): {
  documents: SourceDocument[];
  findings: Finding[];
} {
  const lines = new LineCounter();
  // The parser would fill it, too, but not before it is asked, and not for a text that it does not get to see.
  lines.addNewLine(0);
  for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', end + 1)) {
    lines.addNewLine(end + 1);
  }
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const findings = textFindings(text).map(({ offset, message }) => ({
    where: at(offset),
    message,
  }));
  if (nestsTooDeep(text)) {
    return { documents: [], findings: [...findings, { where: `${name}:1:1`, message: TOO_DEEP }] };
  }
  const parsed = parseAllDocuments(text, {
    version: '1.2',
    schema: 'core',
    uniqueKeys: true,
    merge: false,
    prettyErrors: false,
    strict: true,
  });
  if (!Array.isArray(parsed)) return { documents: [], findings };
  const documents: SourceDocument[] = [];
  for (const document of parsed) {
    const problems = documentFindings(document);
    findings.push(...problems.map(({ offset, message }) => ({ where: at(offset), message })));
    // A separator without anything behind it is no document.
    if (problems.length > 0 || document.contents === null || isEmptyScalar(document.contents))
      continue;
    documents.push({ file: name, value: document.toJS(), locate: locator(document, at) });
  }
  return { documents, findings };
}

const DEPTH_MAX = 64;
const TOO_DEEP = `the file nests deeper than ${DEPTH_MAX} levels`;

/**
 * Whether brackets, or list entries in one line, could nest beyond what a parser that recurses can take. Counts brackets
 * in text and comments, too: no policy has that many open at once.
 */
function nestsTooDeep(text: string): boolean {
  let depth = 0;
  for (const char of text) {
    if (char === '[' || char === '{') depth++;
    else if ((char === ']' || char === '}') && depth > 0) depth--;
    if (depth > DEPTH_MAX) return true;
  }
  return new RegExp(`(?:[-?] ){${DEPTH_MAX}}|\\n {${DEPTH_MAX * 2},}\\S`).test(text);
}

interface Offset {
  readonly offset: number;
  readonly message: string;
}

/** Letters that a reviewer cannot see, and secrets, comments included. */
function textFindings(text: string): Offset[] {
  const found: Offset[] = [];
  for (const match of text.matchAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu)) {
    const [char] = match;
    if (char === '\n' || char === '\r' || (char === '\uFEFF' && match.index === 0)) continue;
    const code = (char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
    found.push({ offset: match.index, message: `an invisible character (U+${code}): remove it` });
  }
  const secret = secretInText(text);
  if (secret !== undefined) found.push({ offset: secret, message: SECRET });
  return found;
}

/** What is said wherever a secret seems to stand. */
export const SECRET =
  'this looks like a secret: name a slot in `secretRef`, and change the secret, since it was here';

function documentFindings(document: Document.Parsed): Offset[] {
  const found: Offset[] = [...document.errors, ...document.warnings].map(({ pos, message }) => ({
    offset: pos[0],
    message,
  }));
  const { directives } = document;
  if (directives.yaml.explicit === true || Object.keys(directives.tags).length > 1) {
    found.push({
      offset: document.range[0],
      message: 'YAML directives (%YAML, %TAG) are not accepted',
    });
  }
  visit(document, (key, node) => {
    if (isPair(node)) return;
    if (!isNode(node)) return;
    const offset = node.range?.[0] ?? 0;
    if (isAlias(node))
      found.push({ offset, message: 'YAML aliases are not accepted: write the value out' });
    else if (node.anchor !== undefined)
      found.push({ offset, message: 'YAML anchors are not accepted' });
    else if (node.tag !== undefined) found.push({ offset, message: 'YAML tags are not accepted' });
    if (key === 'key' && !(isScalar(node) && typeof node.value === 'string')) {
      found.push({ offset, message: 'a key must be text' });
    }
    if (isScalar(node) && typeof node.value === 'string' && looksLikeSecret(node.value)) {
      found.push({ offset, message: SECRET });
    }
  });
  return found;
}

function locator(
  document: Document.Parsed,
  at: (offset: number) => string,
): SourceDocument['locate'] {
  return (path, key) => {
    let node: unknown = document.contents;
    let offset = document.contents?.range[0] ?? 0;
    for (const step of key === undefined ? path : [...path, key]) {
      const pair = isMap(node)
        ? node.items.find((item) => isScalar(item.key) && item.key.value === step)
        : undefined;
      const next = pair ? pair.value : isSeq(node) ? node.items[Number(step)] : undefined;
      if (next === undefined) break;
      if (pair && isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
      // A scalar is shown where its value stands; a list or map where its key does.
      if (isScalar(next) || isSeq(node))
        offset = (isNode(next) ? next.range?.[0] : undefined) ?? offset;
      node = next;
    }
    if (key !== undefined && isNode(node)) return at(keyOffset(document, path, key) ?? offset);
    return at(offset);
  };
}

function keyOffset(document: Document.Parsed, path: DocumentPath, key: string): number | undefined {
  const parent: unknown = path.length === 0 ? document.contents : document.getIn([...path], true);
  if (!isMap(parent)) return undefined;
  const pair = parent.items.find((item) => isScalar(item.key) && item.key.value === key);
  return isNode(pair?.key) ? pair.key.range?.[0] : undefined;
}

function isEmptyScalar(node: unknown): boolean {
  return isScalar(node) && node.value === null && (node.source === undefined || node.source === '');
}
