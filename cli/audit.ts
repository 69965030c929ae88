import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { type AuditHead, type AuditVerification, verifyAudit } from '#core/audit';
import { OutriderError } from '#core/errors';
import { readTrustedIssuers } from '#core/keys';
import type { TrustedIssuer } from '#core/tokens';

const USAGE = `usage: outrider audit verify FILE|DIR... [--keys FILE]... [--head WRITER:SEQ:HASH]... [--json]

Checks that no audit record was changed, removed, repeated or reordered. Of a directory, all *.jsonl files and
*.head.json are read. Signatures are checked with the keys of --keys, otherwise with the public keys in
audit-keys/ beside the directory. Exit: 0 nothing wrong, 1 findings, 2 wrong usage.
`;

interface AuditFileText {
  readonly name: string;
  readonly lines: readonly string[];
}

/**
 * `outrider audit verify`: 0 where every chain holds, 1 where one does not or a file cannot be read, 2 for wrong usage.
 * The files given are checked together, so that a receipt in one vouches for the chain in another.
 */
export async function audit(
  argv: readonly string[],
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<number> {
  const asked = parse(argv);
  if (typeof asked === 'string') {
    err.write(asked === '' ? USAGE : `${asked}\n\n${USAGE}`);
    return 2;
  }
  try {
    const paths = asked.paths.flatMap(auditFilesOf);
    // Before the files: while a mesh runs, a head that was published later would name records that were not read.
    const heads = [...asked.heads, ...asked.paths.flatMap(publishedHeads)];
    const files = paths.map(readAuditFile);
    const keys = asked.keys.length > 0 ? asked.keys : asked.paths.flatMap(keysBeside);
    const trusted = keys.flatMap(readTrustedIssuers);
    const result = await verifyAudit(
      files.flatMap(({ lines }) => lines),
      { heads, ...(trusted.length > 0 ? { trusted } : {}) },
    );
    report(out, files, result, trusted, asked.json);
    return result.findings.length === 0 ? 0 : 1;
  } catch (error) {
    err.write(`${error instanceof Error ? error.message : 'the audit cannot be read'}\n`);
    return 1;
  }
}

interface Asked {
  readonly paths: readonly string[];
  readonly keys: readonly string[];
  readonly heads: readonly AuditHead[];
  readonly json: boolean;
}

function parse(argv: readonly string[]): Asked | string {
  const [verb, ...rest] = argv;
  if (verb === undefined || verb === '--help') return '';
  if (verb !== 'verify') return `there is no \`outrider audit ${verb}\` in this version`;
  try {
    const { values, positionals } = parseArgs({
      args: rest,
      allowPositionals: true,
      options: {
        keys: { type: 'string', multiple: true, default: [] },
        head: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean', default: false },
      },
    });
    if (positionals.length === 0) return 'which file or directory?';
    const heads = values.head.map(parseHead);
    return { paths: positionals, keys: values.keys, heads, json: values.json };
  } catch (error) {
    return error instanceof Error ? error.message : 'wrong usage';
  }
}

function parseHead(text: string): AuditHead {
  const match = /^([\w-]+):(\d{1,15}):([0-9a-f]{64})$/.exec(text);
  const [, writer, seq, hash] = match ?? [];
  if (writer === undefined || seq === undefined || hash === undefined)
    throw new Error(`--head ${text}: must be WRITER:SEQ:HASH`);
  return { writer, seq: Number(seq), hash };
}

function auditFilesOf(path: string): string[] {
  if (!existsSync(path)) throw new OutriderError('NOT_FOUND', `${path} does not exist`);
  if (!statSync(path).isDirectory()) return [path];
  const files = readdirSync(path).filter((name) => name.endsWith('.jsonl'));
  if (files.length === 0) throw new OutriderError('NOT_FOUND', `${path} holds no *.jsonl file`);
  return files.toSorted().map((name) => join(path, name));
}

function readAuditFile(name: string): AuditFileText {
  const text = readFileSync(name, 'utf8');
  return { name, lines: (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n') };
}

/** The heads that a part left beside its file: what it had written for certain. */
function publishedHeads(path: string): AuditHead[] {
  if (!statSync(path).isDirectory()) return [];
  return readdirSync(path)
    .filter((name) => name.endsWith('.head.json'))
    .map((name) => {
      const value: unknown = JSON.parse(readFileSync(join(path, name), 'utf8'));
      if (isHead(value)) return value;
      throw new OutriderError('INVALID_REQUEST', `${join(path, name)} is not the head of a chain`);
    });
}

function keysBeside(path: string): string[] {
  const directory = statSync(path).isDirectory() ? path : dirname(path);
  const keys = join(dirname(directory), 'audit-keys');
  if (!existsSync(keys)) return [];
  return readdirSync(keys)
    .filter((name) => name.endsWith('.audit.pub.json'))
    .map((name) => join(keys, name));
}

function report(
  out: NodeJS.WritableStream,
  files: readonly AuditFileText[],
  result: AuditVerification,
  trusted: readonly TrustedIssuer[],
  json: boolean,
): void {
  const findings = result.findings.map(({ line, problem }) => ({ ...place(files, line), problem }));
  const signatures = trusted.length > 0;
  if (json) {
    out.write(`${JSON.stringify({ ...result, findings, signaturesChecked: signatures })}\n`);
    return;
  }
  for (const { file, line, problem } of findings)
    out.write(`${file === null ? '' : `${file}:${line}: `}${problem}\n`);
  const count = `${result.records} records of ${result.writers.length} writers, ${result.checkpoints} checkpoints`;
  const signed = signatures ? 'signatures checked' : 'signatures NOT checked: give --keys';
  const verdict = findings.length === 0 ? 'nothing wrong' : `${findings.length} findings`;
  out.write(`${count}, ${signed}: ${verdict}\n`);
}

/** Where a line of all the files together stands. Line 0 is none of them. */
function place(
  files: readonly AuditFileText[],
  line: number,
): { file: string | null; line: number } {
  let left = line;
  for (const { name, lines } of files) {
    if (left >= 1 && left <= lines.length) return { file: name, line: left };
    left -= lines.length;
  }
  return { file: null, line: 0 };
}

function isHead(value: unknown): value is AuditHead {
  return (
    typeof value === 'object' &&
    value !== null &&
    'writer' in value &&
    typeof value.writer === 'string' &&
    'seq' in value &&
    typeof value.seq === 'number' &&
    'hash' in value &&
    typeof value.hash === 'string'
  );
}
