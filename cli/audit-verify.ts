import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type AuditHead, type AuditVerification, verifyAudit } from '#core/audit';
import { OutriderError } from '#core/errors';
import { readTrustedIssuers } from '#core/keys';
import type { TrustedIssuer } from '#core/tokens';
import { type AuditFileName, linesOf, readStill } from './audit-files.ts';
import { WrongAuditUsage } from './audit-usage.ts';

interface AuditFileText extends AuditFileName {
  readonly lines: readonly string[];
}

/** A finding, and where it is; `file` is null where it is in none. */
interface Finding {
  readonly file: string | null;
  readonly line: number;
  readonly problem: string;
}

/**
 * `outrider audit verify`: 0 where every chain holds, 1 where one does not.
 * The files given are checked together, so that a receipt in one vouches for the chain in another.
 */
export async function auditVerify(
  argv: readonly string[],
  out: NodeJS.WritableStream,
): Promise<number> {
  const asked = parse(argv);
  const { heads, files } = readStill(asked.paths, (names) => ({
    // Before the files: while a mesh runs, a head that was published later would name records that were not read.
    heads: [...asked.heads, ...asked.paths.flatMap(publishedHeads)],
    files: names.map((name) => ({ ...name, lines: linesOf(name) })),
  }));
  const keys = asked.keys.length > 0 ? asked.keys : asked.paths.flatMap(keysBeside);
  const trusted = keys.flatMap(readTrustedIssuers);
  const result = await verifyAudit(
    files.flatMap(({ lines }) => lines),
    { heads, begins: beginsOf(files), ...(trusted.length > 0 ? { trusted } : {}) },
  );
  const findings = [
    ...result.findings.map(({ line, problem }) => ({ ...place(files, line), problem })),
    ...missingFiles(files),
  ];
  report(out, result, findings, trusted, asked.json);
  return findings.length === 0 ? 0 : 1;
}

interface Asked {
  readonly paths: readonly string[];
  readonly keys: readonly string[];
  readonly heads: readonly AuditHead[];
  readonly json: boolean;
}

/** @throws {WrongAuditUsage} */
function parse(argv: readonly string[]): Asked {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        keys: { type: 'string', multiple: true, default: [] },
        head: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean', default: false },
      },
    });
    if (positionals.length === 0) throw new Error('which file or directory?');
    const heads = values.head.map(parseHead);
    return { paths: positionals, keys: values.keys, heads, json: values.json };
  } catch (error) {
    throw new WrongAuditUsage(error instanceof Error ? error.message : 'wrong usage');
  }
}

function parseHead(text: string): AuditHead {
  const match = /^([\w-]+):(\d{1,15}):([0-9a-f]{64})$/.exec(text);
  const [, writer, seq, hash] = match ?? [];
  if (writer === undefined || seq === undefined || hash === undefined)
    throw new Error(`--head ${text}: must be WRITER:SEQ:HASH`);
  return { writer, seq: Number(seq), hash };
}

/** The lines with which a series begins: what was before them is no longer kept. */
function beginsOf(files: readonly AuditFileText[]): number[] {
  const begins: number[] = [];
  let line = 1;
  let series = '';
  for (const file of files) {
    if (file.series !== series) begins.push(line);
    series = file.series;
    line += file.lines.length;
  }
  return begins;
}

/** Which file of its series one is, and how many are kept. */
interface Anchor {
  readonly file: number;
  readonly keeps: number;
}

/** Files of a series that are gone and were not to go yet. Only a whole directory can show that. */
function missingFiles(files: readonly AuditFileText[]): Finding[] {
  const whole = files.filter(({ ofDirectory }) => ofDirectory);
  return [...new Set(whole.map(({ series }) => series))].flatMap((name) => {
    const series = whole.filter((file) => file.series === name);
    const anchors = anchorsOf(series);
    const there = new Set(anchors.map(({ file }) => file));
    const removed = Math.max(0, ...anchors.map(({ file, keeps }) => file - keeps));
    const last = Math.max(...there);
    return Array.from({ length: Math.max(0, last - removed) }, (_, at) => removed + 1 + at)
      .filter((number) => !there.has(number))
      .map((number) => ({
        file: null,
        line: 0,
        problem: `${name}: file ${number} of the series is missing`,
      }));
  });
}

function anchorsOf(series: readonly AuditFileText[]): Anchor[] {
  const isBegun = ({ lines: [first = ''], number }: AuditFileText) =>
    number !== undefined || first !== '';
  const anchors = series
    .filter(isBegun)
    .map(({ lines: [first = ''], number }) => anchorOf(first, number));
  const last = anchors.toSorted((a, b) => a.file - b.file).at(-1);
  // Where the last was full a moment ago, room has been made already for one that holds nothing yet.
  const next = last && { file: last.file + 1, keeps: last.keeps };
  return next && !series.every(isBegun) ? [...anchors, next] : anchors;
}

function anchorOf(line: string, number: number | undefined): Anchor {
  const value: unknown = parsed(line);
  if (typeof value === 'object' && value !== null && 'file' in value && 'keeps' in value)
    return { file: Number(value.file), keeps: Number(value.keeps) };
  // The first of a series begins with its first record.
  return { file: number ?? 1, keeps: Number.POSITIVE_INFINITY };
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
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
  const keys = join(dirname(resolve(directory)), 'audit-keys');
  if (!existsSync(keys)) return [];
  return readdirSync(keys)
    .filter((name) => name.endsWith('.audit.pub.json'))
    .map((name) => join(keys, name));
}

function report(
  out: NodeJS.WritableStream,
  result: AuditVerification,
  findings: readonly Finding[],
  trusted: readonly TrustedIssuer[],
  json: boolean,
): void {
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
  for (const { path, lines } of files) {
    if (left >= 1 && left <= lines.length) return { file: path, line: left };
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
